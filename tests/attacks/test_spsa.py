import pytest
import torch

from attacks.estimators import FreshDraws
from attacks.perturbation_budget import PerturbationBudget
from attacks.score_based import Spsa

pytestmark = pytest.mark.long


@pytest.mark.parametrize("mixing", [0.0, 0.5])
def test_estimates_average_to_the_gradient_also_in_coupled_batches(linear, mixing):
    problem = linear(batches=2, k=4, shape=(1, 2, 3), mixing=mixing)
    x = 0.3 + 0.4 * problem.x  # trials stay in the box
    grad = Spsa(4000, pairs=2000)._estimate(x, problem.y, FreshDraws(problem.oracle), problem.generators)
    # Of an example's own loss: what the others do is noise.
    want = problem.slope * (1 + mixing / 4)
    torch.testing.assert_close(grad, want, atol=0.35, rtol=0)
    assert torch.cosine_similarity(grad.flatten(2), want.flatten(2), dim=2).min() > 0.98


def test_linear_model_reaches_the_closed_form_optimum(linear):
    problem = linear(batches=2, shape=(1, 2, 3))
    best = problem.x + (0.1 * problem.slope.sign()).clamp(-problem.x, 1 - problem.x)
    attack = Spsa(10 * 256, pairs=128)
    x = problem.attacked(attack, PerturbationBudget("linf", 0.1))
    value = problem.slope.mul(x - problem.x).flatten(2).sum(2)
    assert (value > 0.95 * problem.slope.mul(best - problem.x).flatten(2).sum(2)).all()
