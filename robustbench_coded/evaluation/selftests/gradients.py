"""Self-tests of gradients: do they exist along an attack's path (indicator 1 of arXiv 2106.09947), do they
lead uphill, and do derivatives belong to the answers?

Finite differences are central, of the margin, in float32 on the very object that is attacked: a copy in
float64 would be another object. The draw is held fixed. Two directions: uphill, and random signs, which also
see the slope of inputs that the gradient leaves out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robustbench_coded.evaluation.selftests.scene import (
    Scene,
    SelfTest,
    Walk,
    gap,
    judged,
    not_applicable,
    runner_up,
)

EXIST = "gradients along the path"
WITHOUT = 0.1  # share of inputs without a usable gradient above which an attack with gradients says little


def gradients_exist(scene: Scene, path: Walk) -> SelfTest:
    """Fails where the margin's gradient is zero, NaN or infinite at more than WITHOUT of inputs and iterates.

    The cross-entropy's may vanish because logits are large; then the same holds, for most attacks raise it.
    """
    zero = max(_share(path.gradients, _zero), _share(path.cross_entropy, _zero))
    broken = max(_share(path.gradients, _broken), _share(path.cross_entropy, _broken))
    finding = (
        f"Along a short attack the gradient is zero at {zero:.1%} of the inputs and NaN or infinite at "
        f"{broken:.1%}."
    )
    return judged(EXIST, zero + broken <= WITHOUT, finding, zero_share=zero, not_finite_share=broken)


def _share(gradients: tuple[Tensor, ...], what: object) -> float:
    return sum(what(g).cpu().double().mean().item() for g in gradients) / len(gradients)  # type: ignore[operator]


def _zero(gradient: Tensor) -> Tensor:
    return (gradient == 0).flatten(2).all(2)


def _broken(gradient: Tensor) -> Tensor:
    return (~gradient.isfinite()).flatten(2).any(2)


RISING = "steps uphill"
LEAST_RISE = 0.1  # share of the rise promised by the gradient that must come true
CLEAR = 4.0  # standard errors by which a step uphill must beat a random one where less comes true


def rising_loss(scene: Scene, path: Walk) -> SelfTest:
    """Compares what the gradient promises of the walk's first step with what it brings, summed over inputs.

    Where eps is large against the bends of an honest network little of the promise comes true; then the step
    must at least bring clearly more than a random one of the same size.
    """
    start, moved = path.points[0], path.points[1] - path.points[0]
    before = gap(path.logits[0], scene.y, path.others[0])
    rise = torch.nan_to_num(gap(path.logits[1], scene.y, path.others[0]) - before).flatten().cpu().double()
    promised = float(torch.nan_to_num(path.gradients[0] * moved).sum())
    if promised <= 0:
        return not_applicable(RISING, "The gradients promise nothing.", promised=promised)
    share = float(rise.sum()) / promised
    ball = scene.budget.around(scene.x)
    beside = ball.project_(start + scene.random_signs() * moved.abs())
    chance = gap(scene.answers(beside, path.draws), scene.y, path.others[0]) - before
    more = rise - torch.nan_to_num(chance).flatten().cpu().double()
    error = float(more.std()) / len(more) ** 0.5
    clear = float(more.mean()) / error if error > 0 else 0.0
    finding = (
        f"The first step of a short attack raises the margin by {share:.0%} of what its gradient promises, "
        f"{clear:.1f} standard errors more than a random step."
    )
    passed = share >= LEAST_RISE or (clear >= CLEAR and float(rise.mean()) > 0)
    return judged(RISING, passed, finding, kept=share, clear=clear, rise=float(rise.mean()))


DIFFERENCES = "finite differences"
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
        return not_applicable(DIFFERENCES, "The answers are too flat for differences to be measured.")
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
    return judged(DIFFERENCES, passed, finding, **figures)


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
    usable: Tensor  # whether the difference exceeds rounding errors

    @property
    def share(self) -> float:
        """The share of mismatches among usable differences."""
        return float((self.mismatch & self.usable).sum()) / max(1, int(self.usable.sum()))


def _compared(slopes: Sequence[_Slope], scale: float) -> _Compared:
    mismatch, usable = [], []
    for slope in slopes:
        h = scale * slope.scene.budget.eps
        for direction in slope.directions:
            numeric = slope.measured(direction, h)
            moves = slope.gradient * direction * h
            analytic = slope.scene.per_unit(moves)
            # In a random direction slopes may cancel: a difference is compared with what they are worth.
            worth = slope.scene.per_unit(moves.square()).sqrt()
            larger = torch.maximum(numeric.abs(), torch.maximum(analytic.abs(), worth))
            # NaN compares false with everything; it must count as a mismatch.
            mismatch.append(~((numeric - analytic).abs() <= MISMATCH * larger))
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
