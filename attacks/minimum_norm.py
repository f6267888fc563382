"""Minimum-norm attacks: each example's nearest wrong answer, whatever eps is. FMN (arXiv 2102.12827), and
FAB, the fast adaptive boundary attack (arXiv 1907.02044).
"""

from dataclasses import dataclass
from math import cos, inf, pi

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.apgd import likeliest_wrong
from attacks.balls import DUAL, Ball, most, pixels_apart
from attacks.estimators import Estimator
from attacks.losses import margin_loss, targeted_margin
from attacks.solver import Problem, Solver, wide


class Nearest:
    """The point nearest to x0 that was answered wrongly, whatever eps is; the result is it, inside the ball.

    So an example whose nearest wrong answer lies beyond eps stands, and one run tells for every eps.

    Attributes:
        distance: ``[G, K]``, in the ball's norm and units; inf where there is no wrong answer yet.
        point: like x0; the last point seen where there is no wrong answer yet.
        movable: ``[G, K, 1, 1, 1]``, 1 where a slot may move at all, else 0.
    """

    def __init__(self, x0: Tensor, ball: Ball):
        self.x0, self.ball = x0, ball
        self.point = x0
        self.distance = ball.unit.new_full(x0.shape[:2], torch.inf)
        self.movable = (ball.radius > 0).any(2, keepdim=True).to(ball.unit).expand(*x0.shape[:2], 1, 1, 1)

    @property
    def has_wrong_answer(self) -> Tensor:
        """``[G, K]``, whether there is a wrong answer yet."""
        return self.distance.isfinite()

    def length(self, u: Tensor) -> Tensor:
        """The norm of ``u`` ``[G, K, C, H, W]``, ``[G, K]``."""
        if self.ball.order == 0:
            return pixels_apart(u, torch.zeros_like(u))
        return torch.linalg.vector_norm(u.flatten(2), ord=self.ball.order, dim=-1)

    def at(self, u: Tensor) -> Tensor:
        """The point ``u`` away from x0 in the ball's units, inside the box."""
        return (self.x0 + self.movable * u * self.ball.unit).clamp(0, 1).to(self.x0.dtype)

    def away(self, point: Tensor) -> Tensor:
        """How far a point is from x0, value by value, in the ball's units and at least in float32."""
        return (point.to(self.ball.unit) - self.x0) / self.ball.unit

    def see(self, point: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        """Takes note of the answers to a point; ``[G, K]``, which are wrong."""
        wrong = logits.argmax(-1) != y
        distance = self.length(self.away(point))
        nearer = wrong & (distance < self.distance)
        self.point = torch.where(wide(nearer | ~self.has_wrong_answer), point, self.point)
        self.distance = torch.where(nearer, distance, self.distance)
        return wrong

    def result(self) -> Tensor:
        """The nearest wrong answers, moved into the ball where they lie outside."""
        return self.ball.project_(self.point.clone())


def unit_length(u: Tensor) -> Tensor:
    """``u`` ``[G, K, C, H, W]`` divided by its Euclidean norm; 0 stays 0."""
    norm = torch.linalg.vector_norm(u, dim=(2, 3, 4), keepdim=True)
    return u / norm.clamp(min=torch.finfo(u.dtype).tiny)


# The difference between the largest and the smallest logit, for margins. That of a network may be any: scaled
# by 0.001 or by 1,000, it has the same answers, and losses of another shape.
MARGIN_SPREAD = 8.0
NO_SPREAD = 1e-12  # what divides by less leaves no room for the squares of gradients


def level(logits: Tensor, spread: float) -> Tensor:
    """By what logits ``[..., classes]`` are multiplied to have this spread, ``[...]``; 1 if all are equal."""
    finite = logits.detach().float().nan_to_num(0, 0, 0)
    width = finite.amax(-1) - finite.amin(-1)
    return torch.where(width > NO_SPREAD, spread / width, 1)


def to_boundary(loss: Tensor, grad: Tensor, order: float) -> Tensor:
    """How far the boundary is for a linear model of the network, ``[G, K]`` in units of the ball.

    Args:
        loss: ``[G, K]``, 0 on the boundary.
        grad: its gradient in the ball's units, ``[G, K, C, H, W]``.
        order: of the norm in which it is measured.
    """
    slope = torch.linalg.vector_norm(grad.flatten(2), ord=DUAL[order], dim=-1)
    return loss.abs() / slope.clamp(min=torch.finfo(slope.dtype).tiny)


# Of the paper: the length of a step and the relative change of the radius, first and last (cosine annealing).
FMN_STEP, FMN_LAST_STEP = 1.0, 0.01
FMN_CHANGE, FMN_LAST_CHANGE = 0.05, 0.001


@Algorithm(
    "FMN",
    "FMN, the nearest wrong answer",
    paper="2102.12827",
    norms=("linf", "l2", "l1", "l0"),
    family="nearest",
)
@dataclass(frozen=True)
class Fmn(Solver):
    """Fast minimum-norm attack (algorithm 1) in the budget's norm.

    Beyond the paper, a point inside the ball of the current radius is scaled to its surface, and the radius
    grows until there is a wrong answer: the paper's walk stands still where the box cuts its steps off.

    Attributes:
        steps: moves; as many gradients, and one value for the last point.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; from x, or from ``start``."""
        x, y, estimator, budget, _, start = problem
        ball = budget.around(x)
        nearest = Nearest(x, ball)
        adv = x if start is None else start
        pixels = ball.order == 0
        radius = torch.full_like(nearest.distance, 1 if pixels else inf)
        for step in range(self.steps):
            answer = estimator.gradient(adv, y, margin_loss)
            grad = answer.grad * ball.unit
            wrong = nearest.see(adv, answer.logits, y)
            change = annealed(FMN_CHANGE, FMN_LAST_CHANGE, step, self.steps)
            ahead = to_boundary(answer.loss, grad, ball.order)
            u = nearest.away(adv)
            # A little further than the boundary of the linear model, on which an answer may still be right.
            beyond = (nearest.length(u) + ahead) * (1 + FMN_LAST_CHANGE)
            # Where the box cuts off a step, or the margin curves, the same would follow again and again.
            beyond = torch.where(radius.isfinite(), torch.maximum(beyond, radius + ahead), beyond)
            grown = torch.where(nearest.has_wrong_answer, radius * (1 + change), beyond)
            shrunk = radius * (1 - change)
            if pixels:  # at least one more or less
                grown = torch.maximum(radius + 1, (radius * (1 + change)).floor())
                shrunk = torch.minimum(radius - 1, shrunk.floor()).clamp(min=0)
            radius = torch.where(wrong, torch.minimum(shrunk, nearest.distance), grown)
            # No point of the box is further away than this.
            radius = radius.clamp(max=x[0, 0].numel() / float(ball.unit.min()))
            u = u + annealed(FMN_STEP, FMN_LAST_STEP, step, self.steps) * unit_length(grad)
            adv = nearest.at(_at_radius(u, radius, ball.order))
        nearest.see(adv, estimator.value(adv, y, margin_loss).logits, y)
        return nearest.result()


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """From ``first`` to ``last`` along half a cosine."""
    return last + (first - last) * (1 + cos(pi * step / steps)) / 2


def _at_radius(u: Tensor, radius: Tensor, order: float) -> Tensor:
    """``u`` projected onto the ball of each example's radius ``[G, K]`` around 0, or scaled to its edge."""
    height = wide(radius)
    if order == 0:
        return torch.where(most(u.square().sum(2, keepdim=True), height), u, 0)
    if order == 1:  # less the height beyond which the sizes sum up to the radius
        sizes = u.abs().flatten(2).sort(-1, descending=True).values
        count = torch.arange(1, sizes.shape[-1] + 1, device=u.device)
        heights = (sizes.cumsum(-1) - radius[..., None]) / count
        last = (sizes > heights).sum(-1, keepdim=True).clamp_min(1) - 1
        cut = heights.gather(-1, last).clamp_min(0)[..., None, None]
        u = u - u.clamp(-cut, cut)
    elif order == inf:
        u = u.clamp(-height, height)
    length = torch.linalg.vector_norm(u, ord=order, dim=(2, 3, 4), keepdim=True)
    return u / length.clamp(min=torch.finfo(u.dtype).tiny) * height


# Of the paper: the largest share of the step from the clean point, and what is left of a wrong answer's move.
CLEAN_SHARE, BACK = 0.1, 0.9
# How far a step goes on the way to the plane, first (as in the paper) and last.
BEYOND, LAST_BEYOND = 1.05, 1.005
# Classes of which the nearest is chosen, and how many steps there are for each.
TARGETS, STEPS_EACH = 9, 5


@Algorithm("FAB", "FAB, the nearest wrong answer", example=100, paper="1907.02044", family="nearest")
@dataclass(frozen=True)
class Fab(Solver):
    """Steps to the plane on which a linear model of the network would be undecided between two classes.

    Each is a mean of the steps there from the current point and from the clean one, which keeps the walk
    close to the latter. The paper asks for every class's gradient in each step, and for another answer after
    it. Here the nearest class is chosen once, at the first point, and where an answer is wrong, its gradient
    serves at the point stepped back to: among ten classes, a step costs a fifth.

    Attributes:
        steps: gradients, the first of which choose the class; and one value for the last point.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; from x, or from ``start``."""
        x, y, estimator, budget, _, start = problem
        nearest = Nearest(x, budget.around(x))
        point = x if start is None else start
        targets = max(1, min(TARGETS, self.steps // STEPS_EACH))
        pairs, cost = _nearest_class(estimator, point, y, targets, nearest)
        steps = self.steps - cost
        for step in range(steps):
            answer = estimator.gradient(point, pairs, targeted_margin)
            wrong = nearest.see(point, answer.logits, y)
            if step == steps // 2:  # the nearest class may be out of reach, on a plane that curves away
                likeliest = torch.stack([y, *likeliest_wrong(answer.logits, y, 1)], -1)
                pairs = torch.where(nearest.has_wrong_answer[..., None], pairs, likeliest)
            grad, u = answer.grad * nearest.ball.unit, nearest.away(point)
            gap = (grad * u).flatten(2).sum(-1) - answer.loss.to(u)  # from the clean point up to the plane
            u = torch.where(wide(wrong), BACK, 1.0) * u
            clean = _to_plane(torch.zeros_like(u), grad, gap, nearest)
            here = _to_plane(u, grad, gap - (grad * u).flatten(2).sum(-1), nearest)
            length = nearest.length(here)
            both = (length + nearest.length(clean)).clamp(min=torch.finfo(length.dtype).tiny)
            share = wide((length / both).clamp(max=CLEAN_SHARE))
            beyond = annealed(BEYOND, LAST_BEYOND, step, steps)
            point = nearest.at((1 - share) * (u + beyond * here) + share * beyond * clean)
        nearest.see(point, estimator.value(point, y, margin_loss).logits, y)
        return nearest.result()


def _nearest_class(
    estimator: Estimator, x: Tensor, y: Tensor, count: int, nearest: Nearest
) -> tuple[Tensor, int]:
    """Of the ``count`` likeliest wrong classes the one whose boundary is nearest, as far as gradients tell.

    Returns:
        Pairs of true class and that one ``[G, K, 2]``, and how many gradients it took.
    """
    estimate = estimator.gradient(x, y, margin_loss)
    classes = [torch.stack([y, target], -1) for target in likeliest_wrong(estimate.logits, y, count)]
    best, closest, cost = classes[0], torch.full_like(nearest.distance, torch.inf), 0
    for pairs in classes:
        estimate = estimator.gradient(x, pairs, targeted_margin) if cost else estimate
        cost += 1
        distance = to_boundary(estimate.loss, estimate.grad * nearest.ball.unit, nearest.ball.order)
        best = torch.where((distance < closest)[..., None], pairs, best)
        closest = torch.minimum(distance.to(closest), closest)
    return best, cost


def _to_plane(u: Tensor, grad: Tensor, gap: Tensor, nearest: Nearest) -> Tensor:
    """The smallest move from ``u`` inside the box that raises ``<grad, u>`` by ``gap``, or as far as it goes.

    Args:
        u, grad: ``[G, K, C, H, W]`` in the ball's units.
        gap: ``[G, K]``, of either sign.
    """
    ball, tiny = nearest.ball, torch.finfo(u.dtype).tiny
    steepest = grad.abs().amax((2, 3, 4), keepdim=True).clamp(min=tiny)
    slope, gap = grad / steepest, gap[..., None] / steepest.flatten(2)
    toward = slope.sign() * wide(gap[..., 0].sign())
    x = nearest.x0 + u * ball.unit
    room = (torch.where(toward > 0, 1 - x, x) / ball.unit).clamp_min(0).flatten(2)
    size, gap = slope.abs().flatten(2), gap.abs()
    # Value i moves by min(t * rate_i, room_i) for one t, and reaches its room at its corner; in l1 the
    # steepest values move first, as far as they have room.
    rate = size if ball.order == 2 else torch.ones_like(size)
    corner = -size if ball.order == 1 else torch.where(size > 0, room / rate.clamp_min(tiny), 0)
    corner, order = corner.sort(-1)
    gain = (size * room).gather(-1, order)
    before = gain.cumsum(-1) - gain
    if ball.order == 1:
        moves = (gap - before).clamp_min(0) / size.gather(-1, order).clamp_min(tiny)
        moves = torch.minimum(moves, room.gather(-1, order))
        return torch.zeros_like(room).scatter_(-1, order, moves).view_as(u) * toward
    rest = (size * rate).gather(-1, order).flip(-1).cumsum(-1).flip(-1)
    at = torch.searchsorted(before + corner * rest, gap.contiguous()).clamp_max(size.shape[-1] - 1)
    t = (gap - before.gather(-1, at)).clamp_min(0) / rest.gather(-1, at).clamp_min(tiny)
    t = torch.minimum(t, corner[..., -1:])
    return torch.minimum(t * rate, room).view_as(u) * toward
