"""An attack on random answers that chooses which draws to fool together.

Gradients averaged over the members of a random ensemble are inconsistent: one member that is out of reach, or
whose scale is larger, decides the direction for all (arXiv 2206.06737, which attacks one member after the
other for that reason). Here a set of draws is held fixed, and grows by the draw that is the closest to being
fooled; a draw that cannot be fooled together with those before it is skipped.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from attacks.algorithm import Algorithm, Cost
from attacks.apgd import likeliest_wrong
from attacks.attack import Attack
from attacks.balls import DUAL, norm_of
from attacks.estimators import Estimate
from attacks.losses import margin_loss, targeted_margin
from attacks.solver import Problem, Solver, larger, wide

DRAWS = 16  # that are held
TARGETS = 3  # classes of which each draw aims at the nearest: the likeliest may be far away
# Of eps, one step after the other, with each new draw.
SIZES = (1.0, 0.5, 0.5, 0.25, 0.25, 0.125)
FAR = 1e6  # a distance that no gradient tells from larger ones
BEYOND = 0.1  # of eps: how far behind the boundary an answer is pushed, as far as gradients tell


def queries(attack: Attack, randomised: bool) -> Cost:
    """Largest cost (``Algorithm.cost``)."""
    gradients = (attack.steps or 1) * (DRAWS if randomised else 1)
    return Cost(gradients, gradients)


class _Point(NamedTuple):
    """Attributes:
    x: like the clean inputs, ``[G, K, C, H, W]``.
    distance: to the boundary under each draw, in units of eps's space and as far as the gradient tells,
        ``[n, G, K]``; negative where an answer is wrong.
    slope: gradients of the margin losses, divided by their sizes, ``[n, G, K, C, H, W]``.
    """

    x: Tensor
    distance: Tensor
    slope: Tensor

    def reached(self, eps: float) -> Tensor:
        """How many draws are fooled, less a part of one for how far the others are from that, ``[G, K]``."""
        share = self.distance.clamp(0, FAR).mean(0) / max(eps, 1 / FAR)
        return (self.distance < 0).to(share).sum(0) - share / (1 + share)

    def where(self, taken: Tensor, other: "_Point") -> "_Point":
        """The other point for inputs that are ``taken`` ``[G, K]``."""
        return _Point(
            torch.where(wide(taken), other.x, self.x),
            torch.where(taken, other.distance, self.distance),
            torch.where(wide(taken), other.slope, self.slope),
        )


@Algorithm(
    "Joint",
    "the draws that can be fooled together",
    example=33,
    cost=queries,
    costs="a gradient of 16 draws a step",
    fewest_steps=9,
    stops_early=False,
    chooses_draws=True,
)
@dataclass(frozen=True)
class JointDraws(Solver):
    """Holds draws of the defence, and fools as many of them together as it can.

    Attributes:
        steps: gradients for each held draw, of which ``TARGETS`` choose its class; then ``len(SIZES)`` for
            each draw that joins the set.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; draws no random numbers of its own."""
        x, y, estimator, budget, _, start = problem
        ball = budget.around(x)
        held = estimator.held(DRAWS)

        def point(at: Tensor, value: Estimate) -> _Point:
            size = norm_of((value.grad * ball.unit).flatten(0, 1), DUAL[ball.order]).view(value.loss.shape)
            size = size.clamp_min(torch.finfo(size.dtype).tiny)
            wrong = value.logits.argmax(-1) != y
            distance = torch.where(wrong, -value.loss.abs() - 1 / FAR, -value.loss) / size
            return _Point(at, distance, value.grad / size[..., None, None, None])

        begun = x.clone() if start is None else ball.project_(start.clone())
        first = estimator.each(begun, y, margin_loss, held)
        true, best = y.expand(first.loss.shape), point(begun, first)
        likeliest, *others = likeliest_wrong(first.logits, true, TARGETS)
        aims = torch.stack([true, likeliest], -1)
        for target in others:
            pairs = torch.stack([true, target], -1)
            other = point(begun, estimator.each(begun, pairs, targeted_margin, held))
            nearer = (other.distance < best.distance) & (best.distance >= 0)
            aims = torch.where(nearer[..., None], pairs, aims)
            slope = torch.where(nearer[..., None, None, None], other.slope, best.slope)
            best = _Point(begun, torch.where(nearer, other.distance, best.distance), slope)

        def evaluate(at: Tensor) -> _Point:
            return point(at, estimator.each(at, aims, targeted_margin, held))

        tried = torch.zeros_like(best.distance, dtype=torch.bool)
        for _ in range((self.steps - TARGETS) // len(SIZES)):
            waiting = (best.distance >= 0) & ~tried
            if not bool(waiting.any()):
                break
            near = best.distance.masked_fill(~waiting, torch.inf).argmin(0, keepdim=True)
            joining = torch.zeros_like(waiting).scatter_(0, near, True) & waiting
            chosen, at = (best.distance < 0) | joining, best
            for size in SIZES:
                short = torch.where(chosen, at.distance + BEYOND * budget.eps, 0).clamp_min(0)
                uphill = (short[..., None, None, None] * at.slope).sum(0)
                at = evaluate(ball.step_(at.x.clone(), uphill, size * budget.eps))
                best = best.where(larger(estimator, at.reached(budget.eps), best.reached(budget.eps)), at)
            tried |= joining & (best.distance >= 0)
        return best.x
