"""Multi-targeted Auto-PGD: what the margin alone has no reason to try, and for how much."""

import pytest
import torch

from attacks.apgd import Apgd, ApgdMultiTargeted
from attacks.estimators import FreshDraws
from attacks.losses import margin_loss
from attacks.perturbation_budget import PerturbationBudget
from tests.attacks.conftest import Deterministic

BUDGET = PerturbationBudget("linf", 0.1)


class PinnedRunnerUp(Deterministic):
    """Class 1 lies 0.1 below the true class 0 everywhere; class 2 is lower, but can be reached."""

    def logits(self, x, draws):
        mean = x.flatten(2).mean(-1)
        third = 8 * (mean - 0.5) - 0.5  # above 0 from a mean of 0.5625 on
        return torch.stack([torch.zeros_like(mean), torch.full_like(mean, -0.1), third, third - 9], -1)


@pytest.mark.parametrize("early_stop", [False, True])
def test_a_runner_up_without_slope_does_not_hide_the_others(early_stop):
    x, y = torch.full((2, 3, 1, 4, 4), 0.5), torch.zeros(2, 3, dtype=torch.long)
    oracle = PinnedRunnerUp()

    def answers(attack):
        found = attack.perturb(x, y, FreshDraws(oracle), BUDGET, [torch.Generator()] * 2, start=x)
        return oracle.logits(found, [None]).argmax(-1)

    assert bool((answers(Apgd(10, margin_loss, early_stop=early_stop)) == 0).all())
    assert bool((answers(ApgdMultiTargeted(10, early_stop=early_stop)) == 2).all())
    assert bool((answers(ApgdMultiTargeted(10, targets=1, early_stop=early_stop)) == 2).all())


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_never_worse_than_the_margin_alone(linear, noise):
    problem = linear(batches=2, k=8, classes=6, noise=noise)
    mean = problem.oracle.weights

    def loss(attack):
        estimator = FreshDraws(problem.oracle, draws=20)
        x = attack.perturb(problem.x, problem.y, estimator, BUDGET, problem.generators)
        assert BUDGET.around(problem.x).distance(x).max() <= 1 + 1e-9
        return margin_loss(x.flatten(2) @ mean.T, problem.y)

    alone, more = loss(Apgd(15, margin_loss)), loss(ApgdMultiTargeted(15))
    if noise:
        assert more.mean() >= alone.mean() - 0.02 * alone.abs().mean()
    else:
        assert bool((more >= alone).all())


def test_two_classes_leave_the_margin_alone(linear):
    problem = linear(batches=1, k=4, classes=2)
    x = problem.attacked(ApgdMultiTargeted(5), BUDGET)
    alone = problem.attacked(Apgd(5, margin_loss), BUDGET)
    assert torch.equal(x, alone)
