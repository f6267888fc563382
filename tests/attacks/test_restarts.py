"""Several results of one attack: the better one, by answers that neither of them was chosen by."""

from dataclasses import dataclass, field

import pytest
import torch

from attacks.estimators import FreshDraws
from attacks.losses import cross_entropy, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import AttackSequence, Pgd, restarted_pgd
from attacks.solver import better_of

BUDGET = PerturbationBudget("linf", 0.1)


@dataclass
class Planned:
    """An attack whose runs end at given points; it keeps what it was asked to attack."""

    results: list
    asked: list = field(default_factory=list)

    def perturb(self, x, y, estimator, budget, generators, start=None):
        self.asked.append(x)
        return self.results[len(self.asked) - 1].view_as(x)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_each_example_has_the_better_of_its_runs(linear, noise):
    problem = linear(batches=2, k=3, noise=noise)
    better = torch.tensor([[True, False, False], [False, True, False]])[..., None, None, None]
    up, down = problem.x + 0.1 * problem.slope.sign(), problem.x - 0.1 * problem.slope.sign()
    runs = [torch.where(better, up, down), torch.where(better, down, up), down]
    estimator = FreshDraws(problem.oracle, draws=20)
    x = AttackSequence((Planned(runs),) * 3, early_stop=False).perturb(
        problem.x, problem.y, estimator, BUDGET, problem.generators
    )
    assert torch.equal(x, up)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_points_of_two_batches_that_were_never_answered_together_are_not_mixed(linear, noise):
    problem = linear(batches=2, k=3, mixing=1.0, noise=noise)
    better = torch.tensor([[True, False, False], [True, True, False]])[..., None, None, None]
    up, down = problem.x + 0.1 * problem.slope.sign(), problem.x - 0.1 * problem.slope.sign()
    first, second = torch.where(better, up, down), torch.where(better, down, up)
    estimator = FreshDraws(problem.oracle, draws=20)
    losses = [found.loss.mean(1) for found in estimator.compare([first, second], problem.y, margin_loss)]
    expected = torch.where((losses[1] > losses[0])[:, None, None, None, None], second, first)
    assert torch.equal(better_of(estimator, problem.y, first, second), expected)


def test_restarts_never_do_worse_and_one_is_none(linear):
    problem = linear(batches=2, k=8, classes=5)
    losses = []
    for restarts in (1, 2, 4):
        x = problem.attacked(restarted_pgd(2, 0.02, cross_entropy, 0.0, restarts, early_stop=False), BUDGET)
        losses.append(margin_loss(problem.oracle.logits(x, [None]), problem.y))
    once = problem.attacked(Pgd(2, 0.02), BUDGET)
    assert torch.equal(losses[0], margin_loss(problem.oracle.logits(once, [None]), problem.y))
    assert bool((losses[1] >= losses[0]).all()) and bool((losses[2] >= losses[1]).all())
    assert bool((losses[2] > losses[0]).any())
