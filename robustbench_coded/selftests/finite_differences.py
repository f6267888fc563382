"""Do the gradients that autograd returns belong to the answers? Derivatives along an attack's path.

Central differences of the margin in float32 on the very object that is attacked: a copy in float64 would be
another object. The draw is held fixed. Two directions: uphill, and random signs, which also see the slope of
inputs that the gradient leaves out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robustbench_coded.selftests.result import SelfTest, judged, not_applicable
from robustbench_coded.selftests.scene import Scene, gap, runner_up
from robustbench_coded.selftests.walk import Walk

NAME = "finite differences"
SMALL, STEP = 1 / 64, 1 / 4  # of eps: where a network is nearly linear; and a step of an attack
ROUNDING = 2e-6  # of the largest logit: what float32 leaves uncertain in one answer
MEASURABLE = 10.0  # times the rounding that a difference must be to count
MISMATCH = 0.5  # relative disagreement of one difference that counts as a mismatch
TOLERATED, TOLERATED_STEP = 0.15, 0.25  # shares of mismatches at the two scales
SMOOTH = 0.75  # share of such differences among the mismatches, from which on answers count as smooth
FEW = 16  # units: with fewer, each is measured in up to four random directions
STRAIGHT = 0.25  # how far twice the difference may be from that over twice the distance, relatively


def finite_differences(scene: Scene, path: Walk) -> SelfTest:
    """Fails where analytic and measured differences disagree over SMALL times eps.

    Honest steps in the answers, such as rounding with the gradient of the identity, disagree there, too. They
    are told by measured differences that do not grow with the distance; then it is the differences over STEP
    times eps that count, the size of the moves that attacks make. Answers that are smooth have a slope of
    their own, which the gradient then is not.
    """
    points = (path.points[1], path.points[-1])
    slopes = [_Slope(scene, point, path.draws) for point in points]
    small = _compared(slopes, SMALL)
    if not small.usable.any():
        return not_applicable(NAME, "The answers are too flat for differences to be measured.")
    figures = {"mismatch": small.share}
    passed, scale, share = figures["mismatch"] <= TOLERATED, SMALL, figures["mismatch"]
    if not passed:
        figures["smooth"] = smooth = _smooth(slopes, small)
        if smooth < SMOOTH:
            scale = STEP
            figures["mismatch_step"] = share = _compared(slopes, STEP).share
            passed = share <= TOLERATED_STEP
    finding = (
        f"Gradients and finite differences over eps/{1 / scale:g} disagree in {share:.1%} of "
        f"{int(small.usable.sum())} comparisons along a short attack."
    )
    return judged(NAME, passed, finding, **figures)


class _Slope:
    """The margin's analytic slope at one point, and two directions to measure it in."""

    def __init__(self, scene: Scene, point: Tensor, draws: Sequence[Any]):
        self.scene, self.draws = scene, draws
        # Far enough inside the box that both ends of small differences are images.
        inset = 2 * SMALL * scene.budget.eps
        self.point = point.clamp(min(inset, 0.5), max(1 - inset, 0.5))
        leaf, logits = scene.differentiable(self.point, draws)
        self.other = runner_up(logits, scene.y)
        self.gradient = scene.gradient(gap(logits, scene.y, self.other), leaf)
        units = scene.x.shape[0] * (1 if scene.batch_dependent else scene.x.shape[1])
        chance = [scene.random_signs() for _ in range(max(1, min(4, FEW // units)))]
        self.directions = (torch.nan_to_num(self.gradient).sign(), *chance)
        self.floor = MEASURABLE * ROUNDING * float(logits.detach().abs().max()) * scene.x.shape[1] ** 0.5

    def measured(self, direction: Tensor, h: float) -> Tensor:
        """Half the central difference over ``h`` to either side, [units]."""
        ends = (
            gap(self.scene.answers(self.point + side * h * direction, self.draws), self.scene.y, self.other)
            for side in (1.0, -1.0)
        )
        above, below = ends
        return self.scene.per_unit((above - below) / 2)


class _Compared(NamedTuple):
    """All iterates, directions and units at one scale, bool [comparisons] each."""

    mismatch: Tensor
    usable: Tensor  # whether the difference can be told from rounding

    @property
    def share(self) -> float:
        """Of those that can be told, how many are mismatches."""
        return float((self.mismatch & self.usable).sum()) / max(1, int(self.usable.sum()))


def _compared(slopes: Sequence[_Slope], scale: float) -> _Compared:
    mismatch, usable = [], []
    for slope in slopes:
        h = scale * slope.scene.budget.eps
        for direction in slope.directions:
            found = slope.measured(direction, h)
            moves = slope.gradient * direction * h
            analytic = slope.scene.per_unit(moves)
            # In a random direction slopes may cancel: a difference is compared with what they are worth.
            worth = slope.scene.per_unit(moves.square()).sqrt()
            larger = torch.maximum(found.abs(), torch.maximum(analytic.abs(), worth))
            # NaN compares false with everything; it must count as a mismatch.
            mismatch.append(~((found - analytic).abs() <= MISMATCH * larger))
            usable.append(~(larger < slope.floor))
    return _Compared(torch.cat(mismatch), torch.cat(usable))


def _smooth(slopes: Sequence[_Slope], small: _Compared) -> float:
    """Share of the mismatches whose measured differences grow in proportion to the distance."""
    straight = []
    for slope in slopes:
        h = SMALL * slope.scene.budget.eps
        for direction in slope.directions:
            once, twice = slope.measured(direction, h), slope.measured(direction, 2 * h)
            moving = torch.minimum(once.abs(), twice.abs()) > slope.floor
            straight.append(moving & ((twice - 2 * once).abs() <= STRAIGHT * twice.abs()))
    mismatches = small.mismatch & small.usable
    return float((torch.cat(straight) & mismatches).sum()) / max(1, int(mismatches.sum()))
