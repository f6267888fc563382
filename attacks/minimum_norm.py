"""Minimum-norm attacks: each example's nearest wrong answer, whatever eps is; FMN (arXiv 2102.12827)."""

from dataclasses import dataclass
from math import cos, inf, pi

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.balls import DUAL, Ball, most, pixels_apart
from attacks.losses import margin_loss
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
            assert answer.grad is not None
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


class Adam:
    """Adam's steps (arXiv 1412.6980, algorithm 1) on points ``[G, K, C, H, W]``.

    Attributes:
        metric: by what the last step divided each value.
    """

    FIRST, SECOND, TINY = 0.9, 0.999, 1e-8

    def __init__(self, u: Tensor):
        self._mean, self._square, self._steps = torch.zeros_like(u), torch.zeros_like(u), 0
        self.metric = torch.ones_like(u)

    def step(self, u: Tensor, grad: Tensor, size: float) -> Tensor:
        """``u`` after a step of ``size`` down the gradient, both of its shape."""
        self._steps += 1
        self._mean = self.FIRST * self._mean + (1 - self.FIRST) * grad
        self._square = self.SECOND * self._square + (1 - self.SECOND) * grad.square()
        self.metric = (self._square / (1 - self.SECOND**self._steps)).sqrt() + self.TINY
        return u - size * self._mean / (1 - self.FIRST**self._steps) / self.metric
