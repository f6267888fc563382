"""Greedy ascent: the worst corner of a linear model, and gates that notice what other attacks do."""

import pytest
import torch

from attacks.estimators import FreshDraws
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Pgd
from attacks.subset_ascent import Greedy
from tests.attacks.conftest import Deterministic

EPS = 0.1
CLEAN = 0.47  # a third of all values, moved by eps, are enough
WATCHED = (0, 7, 56, 63)


class Gated(Deterministic):
    """Two classes by the mean of the pixels, or, where the gate notices a change of ``x``, always class 0."""

    def __init__(self, notices):
        self.notices = notices

    def logits(self, x, draws):
        noticed = self.notices((x - CLEAN).detach().flatten(2))
        score = 8 * (x.flatten(2).mean(-1) - 0.5)
        safe = -1 - 0.01 * x.flatten(2).square().mean(-1)  # with a slope of its own
        return torch.stack([torch.zeros_like(score), torch.where(noticed, safe, score)], -1)


def watched(change):
    return change[..., WATCHED].abs().amax(-1) > 0.1 * EPS


def many(change):
    return (change.abs() > 0.1 * EPS).double().mean(-1) > 0.5


def right_after(attack, notices):
    x = torch.full((2, 3, 1, 8, 8), CLEAN, dtype=torch.float64)
    oracle, y = Gated(notices), torch.zeros(2, 3, dtype=torch.int64)
    budget = PerturbationBudget("linf", EPS)
    generators = [torch.Generator().manual_seed(g) for g in range(2)]
    adv = attack.perturb(x, y, FreshDraws(oracle), budget, generators)
    assert bool((budget.around(x).distance(adv) <= 1 + 1e-9).all())
    return int((oracle.logits(adv, [None]).argmax(-1) == y).sum())


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("notices", [watched, many])
def test_it_goes_past_a_gate_that_stops_pgd(notices, early_stop):
    assert right_after(Pgd(100), notices) == 6
    assert right_after(Greedy(20, early_stop=early_stop), notices) == 0


@pytest.mark.parametrize("steps", [2, 7, 20])
def test_it_ends_at_the_worst_corner_of_a_linear_model(linear, steps):
    problem = linear(k=4, classes=2)
    worst = (problem.x + 0.2 * problem.slope.sign()).clamp(0, 1)
    budget = PerturbationBudget("linf", 0.2)
    adv = problem.attacked(Greedy(steps), budget)
    torch.testing.assert_close(adv, worst, rtol=0, atol=1e-12)


def test_it_begins_where_it_is_told_and_needs_two_steps(linear):
    problem = linear(k=4, classes=2)
    asked = problem.attacked(Greedy(2), PerturbationBudget("linf", 0.0), start=torch.ones_like(problem.x))
    assert torch.equal(asked, problem.x)  # projected
    with pytest.raises(ValueError, match="expected steps >= 2"):
        Greedy(1)
