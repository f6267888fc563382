import pytest
import torch

from attacks.estimators import FreshDraws
from attacks.perturbation_budget import PerturbationBudget
from attacks.score_based import Spsa

pytestmark = pytest.mark.long


def slope(problem):
    w = problem.oracle.weights
    return torch.where((problem.y == 0)[..., None], w[1] - w[0], w[0] - w[1]).view_as(problem.x)


@pytest.mark.parametrize("mixing", [0.0, 0.5])
def test_estimates_average_to_the_gradient_also_in_coupled_batches(linear, mixing):
    problem = linear(batches=2, k=4, shape=(1, 2, 3), mixing=mixing)
    x = 0.3 + 0.4 * problem.x  # trials stay in the box
    grad = Spsa(4000, pairs=2000)._estimate(x, problem.y, FreshDraws(problem.oracle), problem.generators)
    # Of an example's own loss: what the others do is noise.
    want = slope(problem) * (1 + mixing / 4)
    torch.testing.assert_close(grad, want, atol=0.35, rtol=0)
    assert torch.cosine_similarity(grad.flatten(2), want.flatten(2), dim=2).min() > 0.98


def test_linear_model_reaches_the_closed_form_optimum(linear):
    problem = linear(batches=2, shape=(1, 2, 3))
    best = problem.x + (0.1 * slope(problem).sign()).clamp(-problem.x, 1 - problem.x)
    attack = Spsa(10 * 256, pairs=128)
    x = attack.perturb(
        problem.x, problem.y, FreshDraws(problem.oracle), PerturbationBudget("linf", 0.1), problem.generators
    )
    value = slope(problem).mul(x - problem.x).flatten(2).sum(2)
    assert (value > 0.95 * slope(problem).mul(best - problem.x).flatten(2).sum(2)).all()


def test_a_seed_decides_everything_and_a_batch_does_not_depend_on_its_group(linear):
    together, alone = linear(batches=3, noise=0.5), linear(batches=1, noise=0.5)
    results = [
        Spsa(64).perturb(p.x, p.y, FreshDraws(p.oracle), PerturbationBudget("l2", 0.5), p.generators)
        for p in (together, alone, together)
    ]
    assert torch.equal(results[0], results[2])
    torch.testing.assert_close(results[0][:1], results[1], atol=1e-12, rtol=0)


def test_too_few_queries_are_refused():
    with pytest.raises(ValueError, match="expected at least 32 queries for a move, got 31"):
        Spsa(31)
