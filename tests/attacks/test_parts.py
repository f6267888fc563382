"""Ascent in parts: gates that notice where values moved, or which way; elsewhere the ball holds more."""

import pytest
import torch

from attacks.parts import PARTS, Parts
from attacks.pgd import Pgd
from tests.attacks.test_greedy import CLEAN, EPS, right_after


def fell(change):
    return change.amin(-1) < -0.1 * EPS


def rose(change):
    return change.amax(-1) > 0.1 * EPS


def both_ways(change):
    return fell(change) & rose(change)


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
    x = torch.full((1, 2, 3, 5, 7), CLEAN)
    at = x + EPS * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    up, down, *halves = (confine(at, x) - x for confine in PARTS)
    assert bool((up >= 0).all()) and bool((down <= 0).all())
    assert torch.equal(up + down, at - x)
    left, right, top, bottom = (half != 0 for half in halves)
    assert torch.equal(left.any((0, 1, 2, 3)).nonzero().flatten(), torch.arange(4))
    assert torch.equal(top.any((0, 1, 2, 4)).nonzero().flatten(), torch.arange(3))
    for first, second in ((left, right), (top, bottom)):
        assert not bool((first & second).any()) and bool((first | second).all())


def test_a_part_needs_two_gradients():
    with pytest.raises(ValueError, match="expected steps >= 12, got 11"):
        Parts(11)
