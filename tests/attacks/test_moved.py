"""Perturbed inputs rounded: where they end, and that they never leave the ball."""

import pytest
import torch

from attacks.attack import EIGHT_BIT_LEVELS as LEVELS
from attacks.perturbation_budget import PerturbationBudget
from attacks.perturbation_transforms import ROUNDING, inside, rounded

LINF = PerturbationBudget("linf", 8 / 255)
L2 = PerturbationBudget("l2", 0.5)


def images(*, on_grid=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (2, 3, 3, 8, 8), generator=generator).float()
    return levels / 255 if on_grid else (levels + 0.37).clamp(max=255) / 255


def levels_of(x):
    return x.double() * LEVELS


def is_on_grid(x):
    return bool(((levels_of(x) - levels_of(x).round()).abs() < 1e-4).all())


@pytest.mark.parametrize("budget", [LINF, L2], ids=["linf", "l2"])
@pytest.mark.parametrize("on_grid", [True, False])
def test_rounded_inputs_are_on_the_grid_and_in_the_ball(budget, on_grid):
    clean = images(on_grid=on_grid)
    x = budget.around(clean).uniform([torch.Generator().manual_seed(g) for g in (1, 2)])
    found = rounded(x, clean, budget, LEVELS)
    assert is_on_grid(found)
    assert budget.around(clean).distance(found).max() <= 1 + ROUNDING
    # Half a level, or a whole one at the ball's edge; in l2 the perturbation is shortened a little, too.
    assert (found - x).abs().max() <= (1 if budget is LINF else 2.5) / 255 + 1e-6


def test_what_is_on_the_grid_stays_bit_by_bit():
    """The corner of a ball of 8 levels is a picture of 8 bits; float32 must not cost it a level."""
    clean = images()
    corner = (clean + LINF.eps * torch.where(clean < 0.5, 1, -1)).clamp(0, 1)
    picture = (corner.double() * LEVELS).round().float() / LEVELS
    assert torch.equal(rounded(corner, clean, LINF, LEVELS), picture)
    assert (levels_of(picture) - levels_of(clean)).abs().max().round() == 8


def test_rounding_never_steps_out_of_a_ball_between_two_levels():
    clean, budget = images(), PerturbationBudget("linf", 2.6 / 255)
    found = rounded((clean + budget.eps).clamp(max=1), clean, budget, LEVELS)
    assert (levels_of(found) - levels_of(clean)).round().max() == 2  # the nearest level, 3, is outside
    off = images(on_grid=False)
    narrow = PerturbationBudget("linf", 0.3 / 255)
    assert torch.equal(rounded(off + 0.001, off, narrow, LEVELS)[off < 1], off[off < 1])


def test_only_what_lies_outside_is_projected():
    clean = images()
    x = (clean + 0.01).clamp(max=1)
    assert torch.equal(inside(x, clean, L2), x)
    far = x.clone()
    far[0, 0] = 1 - clean[0, 0]
    moved = inside(far, clean, L2)
    assert torch.equal(moved[1], x[1]) and L2.around(clean).distance(moved).max() <= 1 + ROUNDING
