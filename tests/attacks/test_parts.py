"""Ascent in parts: gates that notice where values moved, or which way; elsewhere the ball holds more."""

import pytest
import torch

from attacks.estimators import FreshDraws
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import PARTS, Parts, Pgd
from tests.attacks.conftest import Deterministic

EPS = 0.1
CLEAN = 0.47  # a third of all values, moved by eps, are enough


class Gated(Deterministic):
    """Two classes by the mean of the pixels, or, where the gate notices a change of ``x``, always class 0."""

    def __init__(self, notices):
        self.notices = notices

    def logits(self, x, draws):
        noticed = self.notices((x - CLEAN).detach().flatten(2))
        score = 8 * (x.flatten(2).mean(-1) - 0.5)
        safe = -1 - 0.01 * x.flatten(2).square().mean(-1)  # with a slope of its own
        return torch.stack([torch.zeros_like(score), torch.where(noticed, safe, score)], -1)


def right_after(attack, notices):
    x = torch.full((2, 3, 1, 8, 8), CLEAN, dtype=torch.float64)
    oracle, y = Gated(notices), torch.zeros(2, 3, dtype=torch.int64)
    budget = PerturbationBudget("linf", EPS)
    generators = [torch.Generator().manual_seed(g) for g in range(2)]
    adv = attack.perturb(x, y, FreshDraws(oracle), budget, generators)
    assert bool((budget.around(x).distance(adv) <= 1 + 1e-9).all())
    return int((oracle.logits(adv, [None]).argmax(-1) == y).sum())


def fell(change):
    return change.amin(-1) < -0.1 * EPS


def rose(change):
    return change.amax(-1) > 0.1 * EPS


def in_three_quadrants(change):
    moved = change.unflatten(-1, (2, 4, 2, 4)).abs().amax((-1, -3)) > 0.1 * EPS
    return moved.flatten(-2).sum(-1) > 2


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("notices", [fell, in_three_quadrants])
def test_it_goes_past_gates_that_see_where_values_moved_or_which_way(notices, early_stop):
    assert right_after(Pgd(100), notices) == 6
    assert right_after(Parts(60, early_stop=early_stop), notices) == 0


def test_nothing_is_found_where_no_part_holds_anything():
    assert right_after(Parts(60), rose) == 6  # the other class needs values that rise


def test_each_part_keeps_to_itself():
    x = torch.full((1, 2, 3, 5, 8), CLEAN)
    at = x + EPS * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    up, down, whole, *places = (part.confine(at, x) - x for part in PARTS)
    assert bool((up >= 0).all()) and bool((down <= 0).all())
    assert torch.equal(up + down, at - x) and torch.equal(whole, at - x)
    halves, (squares,) = [(place != 0).flatten(0, 2).any(0) for place in places[:-1]], places[-1:]
    top, _, left, _, above, *_ = halves
    assert torch.equal(top.any(1), torch.arange(5) < 3) and torch.equal(left.any(0), torch.arange(8) < 4)
    assert bool(above[0, -1]) and not bool(above[-1, 0])  # the main diagonal's upper side
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        assert not bool((first & second).any()) and bool((first | second).all())
        assert 0.4 < first.float().mean() < 0.65
    squares = (squares != 0).flatten(0, 2).any(0)
    assert not bool((squares[1:] & squares[:-1]).any()) and not bool((squares[:, 1:] & squares[:, :-1]).any())


def test_one_part_goes_half_as_far():
    assert right_after(Parts(60), lambda change: change.abs().amax(-1) > 0.6 * EPS) == 0
    assert right_after(Pgd(100), lambda change: change.abs().amax(-1) > 0.6 * EPS) == 6
