"""An attack that sees labels alone, on linear models, whose nearest wrong answers are known."""

import math

import pytest
import torch

from attacks.estimators import FreshDraws
from attacks.perturbation_budget import PerturbationBudget
from attacks.score_based import Rays, mistaken


class LabelsOnly:
    """The same target with logits that give nothing away but their largest."""

    def __init__(self, oracle):
        self.oracle = oracle
        self.randomised, self.independent = oracle.randomised, oracle.independent
        self.draws, self.images = oracle.draws, oracle.images

    def logits(self, x, draws):
        logits = self.oracle.logits(x, draws)
        assert not logits.requires_grad
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits)


def far_from_the_box(problem):
    """Inputs in the middle of the box, with labels: nothing is cut off on the way to the boundary."""
    problem.x = 0.45 + 0.1 * problem.x
    problem.y = problem.oracle.logits(problem.x, problem.oracle.draws(0)).argmax(-1)
    return problem


def standing(problem, attack, budget, estimator=None, **options):
    estimator = FreshDraws(problem.oracle) if estimator is None else estimator
    x = attack.perturb(problem.x, problem.y, estimator, budget, problem.generators, **options)
    assert budget.around(problem.x).distance(x).max() <= 1 + 1e-9
    return problem.oracle.logits(x, problem.oracle.draws(0)).argmax(-1) == problem.y


@pytest.mark.long
def test_finds_the_nearest_wrong_answer_of_a_linear_model(linear):
    problem = far_from_the_box(linear(batches=2, k=4, shape=(3, 4, 4)))
    # Each slot has the radius of its own boundary: 10% more in the first batch, 1% less in the second.
    radius = torch.tensor([[1.1], [0.99]]) * problem.nearest(1)
    stands = standing(problem, Rays(800), PerturbationBudget("linf", 1.0, eps_scale=radius))
    assert not stands[0].any() and stands[1].all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_labels_are_all_that_it_sees(linear, norm, noise):
    problem = linear(batches=2, k=3, classes=4, noise=noise)
    budget = PerturbationBudget(norm, 0.1)
    results = [
        Rays(120).perturb(problem.x, problem.y, FreshDraws(oracle, draws=3), budget, problem.generators)
        for oracle in (problem.oracle, LabelsOnly(problem.oracle))
    ]
    assert torch.equal(*results)


def test_no_more_questions_than_steps_and_fewer_where_examples_are_left_alone(linear):
    problem = linear(batches=2, k=8, classes=4)
    budget = PerturbationBudget("linf", 0.15)
    whole, early = FreshDraws(problem.oracle), FreshDraws(problem.oracle)
    stands = standing(problem, Rays(300), budget, whole)
    assert 280 * 16 < whole.forwards <= 300 * 16 and whole.backwards == 0
    assert torch.equal(standing(problem, Rays(300, early_stop=True), budget, early), stands)
    assert 0 < early.forwards < 0.7 * whole.forwards


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_under_noise_its_points_are_wrong_in_most_draws_that_it_never_saw(linear, norm):
    problem = linear(batches=2, k=4, noise=0.1, seed=3)
    problem.x = 0.35 + 0.3 * problem.x
    logits = problem.x.flatten(2) @ problem.oracle.weights.T
    problem.y = logits.argmax(-1)
    # Twice as far as the boundary of the mean model: the best direction is wrong in every draw there.
    normal = problem.oracle.weights[1] - problem.oracle.weights[0]
    gap = (logits[..., 1] - logits[..., 0]).abs().max()
    eps = 2 * float(gap / torch.linalg.vector_norm(normal, ord=1 if norm == "linf" else 2))
    estimator = FreshDraws(problem.oracle, draws=5)
    x = Rays(800).perturb(problem.x, problem.y, estimator, PerturbationBudget(norm, eps), problem.generators)
    unseen = [problem.oracle.draws(index) for index in range(10**6, 10**6 + 50)]
    shares = torch.stack([mistaken(problem.oracle.logits(x, draws), problem.y) for draws in unseen]).mean(0)
    assert shares.mean() > 0.9
    assert 795 * 40 <= estimator.forwards <= 800 * 40


def test_held_slots_stay_where_they_are(linear):
    problem = linear(batches=2, k=3, mixing=1.0)
    eps_scale = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, torch.inf]])
    budget = PerturbationBudget("linf", 0.1, eps_scale=eps_scale)
    asked = []

    class Watched(LabelsOnly):
        def logits(self, x, draws):
            asked.append(x.clone())
            return self.oracle.logits(x, draws)

    x = Rays(60).perturb(
        problem.x, problem.y, FreshDraws(Watched(problem.oracle)), budget, problem.generators
    )
    for points in (*asked, x):
        assert torch.equal(points[eps_scale == 0], problem.x[eps_scale == 0])
    assert math.isclose(float(budget.around(problem.x).distance(x).max()), 1, rel_tol=1e-6) or asked
