"""Which perturbed inputs are inside the budget, and how they are rounded before they are submitted again.

All of it keeps to the budget. Groups of batches are ``[G, K, C, H, W]`` in [0, 1], as everywhere.
"""

import torch
from torch import Tensor

from attacks.accelerator import double
from attacks.perturbation_budget import PerturbationBudget
from attacks.solver import wide

# Part of a level by which a bound may miss one: a pixel in float32 is a multiple of 1/255 only nearly.
SLACK = 1e-5
# Part of eps that rounding of float32 may add to a distance.
ROUNDING = 1e-5
# Lengths at which a perturbation is tried until its rounded version is inside an l2 ball.
LENGTHS = (1.0, 0.98, 0.96, 0.94, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.4, 0.2, 0.0)


def outside(x: Tensor, clean: Tensor, budget: PerturbationBudget) -> Tensor:
    """``[G, K]``, which inputs are not finite, or outside ball or box: these are not scored."""
    # A NaN compares as False with everything.
    fits = ((x >= 0) & (x <= 1)).flatten(2).all(-1)
    return ~(fits & (budget.around(clean).distance(x) <= 1 + ROUNDING))


def inside(x: Tensor, clean: Tensor, budget: PerturbationBudget) -> Tensor:
    """The same inputs; those `outside` are projected."""
    far = outside(x, clean, budget)
    return torch.where(wide(far), projected(x, clean, budget), x) if bool(far.any()) else x


def projected(x: Tensor, clean: Tensor, budget: PerturbationBudget) -> Tensor:
    """Inputs moved into ball and box; all NaN where one holds NaN or infinity, which leads to no point."""
    finite = wide(x.isfinite().flatten(2).all(-1))
    return torch.where(finite, budget.around(clean).project_(x.clone()), torch.nan)


def rounded(x: Tensor, clean: Tensor, budget: PerturbationBudget, levels: int) -> Tensor:
    """The nearest inputs inside the ball whose pixels are multiples of 1/``levels``.

    linf: each pixel takes the nearest such level within eps of its clean one; where there is none, the clean
    pixel stays as it is. l2, l1: all pixels are rounded; where that leaves the ball, the perturbation is
    shortened until it does not, and where nothing helps, the input stays clean. l0: the changed pixels are.
    """
    if budget.norm == "linf":
        return _rounded_in_box(x, clean, budget, levels)
    if budget.norm == "l0":
        changed = (x != clean).any(2, keepdim=True)
        return torch.where(changed, _on_grid((x * levels).round(), levels), clean)
    ball = budget.around(clean)
    result = clean.clone()
    open_ = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    for length in LENGTHS:
        shorter = torch.lerp(clean, x, length).clamp_(0, 1)
        tried = _on_grid((shorter * levels).round(), levels)
        fits = open_ & (ball.distance(tried) <= 1 + ROUNDING)
        result = torch.where(wide(fits), tried, result)
        open_ &= ~fits
        if not bool(open_.any()):
            break
    return result


def _rounded_in_box(x: Tensor, clean: Tensor, budget: PerturbationBudget, levels: int) -> Tensor:
    start = double(clean)
    ball = budget.around(start)  # whose bounds are the projections of black and white
    lower, upper = (ball.project_(torch.full_like(start, corner)) for corner in (0.0, 1.0))
    lowest, highest = (lower * levels - SLACK).ceil(), (upper * levels + SLACK).floor()
    level = (x.to(start) * levels).round().clamp(lowest, highest)
    return torch.where((lowest > highest).to(x.device), clean, _on_grid(level.to(x), levels))


def _on_grid(level: Tensor, levels: int) -> Tensor:
    """Levels as a picture is read."""
    return level.clamp(0, levels) / levels
