"""HopSkipJump (arXiv 1904.02144): walks along the decision boundary; asks for labels alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf, sqrt

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.balls import Ball
from attacks.decisions import Decisions, begin, inside, length, room, start_images
from attacks.solver import Problem, Solver, wide

# Probes for the first direction; the t-th one takes sqrt(t) times as many (section IV.B of the paper). In a
# short search no direction takes more than a tenth of the queries at first.
FIRST_PROBES, LARGEST_SHARE = 100, 0.1
# Length of a probe in the ball's norm, as a share of the distance from x: chance drowns a short one.
PROBE, NOISY_PROBE = 0.01, 0.3
HALVINGS = 10


@Algorithm(
    "HopSkipJump",
    "HopSkipJump (labels only)",
    example=1000,
    paper="1904.02144",
    norms=("linf", "l2"),
    family="decision",
    loss=None,
)
@dataclass(frozen=True)
class HopSkipJump(Solver):
    """The nearest wrong answer on a walk along the boundary, each move in a direction estimated from labels.

    A move: bisect between x and the point (eps first, for that decides), estimate the boundary's normal from
    probes around it, step along it, half as far until the answer is wrong. The walk begins at ``start``, at
    another input of the batch or at a random image, whichever is answered wrongly first. Where answers depend
    on chance or the batch, a probe counts by its share of wrong draws, any other question by the majority,
    and the end of a bisection is queried once more.

    Attributes:
        steps: queries; each costs what the estimator takes.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; the walk begins at ``start`` where that is answered wrongly."""
        x, y, estimator, budget, generators, start = problem
        # Where the result is to be chosen in the end, that takes two queries.
        decisions = Decisions(estimator, y, self.steps if estimator.per_example else self.steps - 2)
        walk = _Walk(decisions, x, budget.around(x), generators, early_stop=self.early_stop)
        walk.begin(start)
        probes, move = min(FIRST_PROBES, max(1, int(LARGEST_SHARE * self.steps))), 1
        while not walk.over:
            walk.bisect()
            walk.advance(walk.normal(int(probes * sqrt(move))), move)
            move += 1
        return inside(decisions, budget, x, walk.best)


class _Walk:
    """Where each example is on its walk; distances are in the ball's units, ``[G, K]``.

    Attributes:
        point: the current point, answered wrongly.
        best: the nearest point that is known to be answered wrongly.
        begun: ``[G, K]``, whether any point is misclassified.
    """

    def __init__(
        self,
        decisions: Decisions,
        x: Tensor,
        ball: Ball,
        generators: Sequence[torch.Generator],
        *,
        early_stop: bool,
    ):
        self.decisions, self.x, self.ball, self.generators, self.early_stop = (
            decisions,
            x,
            ball,
            generators,
            early_stop,
        )
        self.radius = ball.radius.flatten(2).amax(-1).expand(x.shape[:2])
        self.movable = room(ball, x) > 0
        self.point = self.best = x
        self.nearest = room(ball, x)
        self.begun = torch.zeros_like(decisions.y, dtype=torch.bool)
        self.share = PROBE if decisions.estimator.per_example else NOISY_PROBE
        # A random probe goes along the normal by about this share of its length; bisection is as exact.
        values = x[0, 0].numel()
        self.precision = self.share / (values if ball.order == inf else sqrt(values))

    @property
    def over(self) -> bool:
        return self.decisions.over or not bool(self._live().any())

    def _live(self) -> Tensor:
        """The examples whose walk goes on, ``[G, K]``."""
        return self.begun & ~(self.nearest <= self.radius) if self.early_stop else self.begun

    def begin(self, start: Tensor | None) -> None:
        """Looks for a wrong answer anywhere in the box."""
        given = [] if start is None else [start]
        images = chain(given, start_images(self.x, self.generators))
        self.point, self.begun = begin(self.decisions, images, self._movable)
        self.point = self.best = self._movable(self.point)
        self.nearest = torch.where(self.begun, self._distance(self.point), self.nearest)

    def _movable(self, point: Tensor) -> Tensor:
        return torch.where(wide(self.movable), point, self.x)

    def _ask(self, point: Tensor, live: Tensor) -> Tensor:
        """True if the points of the live examples are misclassified; stores the nearest of these."""
        wrong = self.decisions.wrong(point, live if self.early_stop else None) & live
        if self.decisions.estimator.per_example:
            self._keep(point, wrong)
        return wrong

    def _keep(self, point: Tensor, wrong: Tensor) -> None:
        distance = self._distance(point)
        nearer = wrong & ((distance < self.nearest) | ~self.begun)
        self.best = torch.where(wide(nearer), point, self.best)
        self.nearest = torch.where(nearer, distance, self.nearest)

    def _distance(self, point: Tensor) -> Tensor:
        return length((point - self.x) / self.ball.unit, self.ball)

    def bisect(self) -> None:
        """Moves each point towards x, up to the boundary."""
        far, high = self.point, self._distance(self.point)
        low, whole = torch.zeros_like(high), high
        while not self.over:
            searched = self._live() & (high - low > self.precision * whole)
            if not bool(searched.any()):
                break
            decisive = (low < self.radius) & (self.radius < high)
            middle = torch.where(decisive, self.radius, (low + high) / 2)
            wrong = self._ask(self._towards(far, middle), searched)
            high = torch.where(searched & wrong, middle, high)
            low = torch.where(searched & ~wrong, middle, low)
        self.point = self._towards(far, high)
        if not (self.decisions.estimator.per_example or self.over):
            self._keep(self.point, self._ask(self.point, self._live()))

    def _towards(self, far: Tensor, distance: Tensor) -> Tensor:
        """The point on the way from x to ``far`` (linf: of the box around x) at that distance from x."""
        u = (far - self.x) / self.ball.unit
        if self.ball.order == inf:
            u = u.clamp(-wide(distance), wide(distance))
        else:
            u = u * wide(distance / length(u, self.ball).clamp(min=torch.finfo(u.dtype).tiny)).clamp(max=1)
        return (self.x + u * self.ball.unit).clamp_(0, 1).to(self.x.dtype)

    def normal(self, probes: int) -> Tensor:
        """The direction of steepest ascent into the wrong classes, of norm 1, from so many probes."""
        size = wide(self.share * self._distance(self.point))
        weighted, plain = torch.zeros_like(self.x), torch.zeros_like(self.x)
        total, count = torch.zeros_like(self.nearest), 0
        while count < probes and not self.over:
            u = torch.stack([self._direction(g) for g in self.generators]).to(self.x)
            probe = (self.point + size * u * self.ball.unit).clamp_(0, 1).to(self.x.dtype)
            probe = self._movable(probe)
            share = self.decisions.wrong_share(probe, self._live() if self.early_stop else None)
            moved = (probe - self.point) / self.ball.unit
            weighted += wide(2 * share - 1) * moved
            plain += moved
            total, count = total + 2 * share - 1, count + 1
        # Centred answers vary less; if all are alike there is nothing to centre.
        mean = total / max(count, 1)
        gradient = weighted - wide(torch.where(mean.abs() >= 1, 0, mean)) * plain
        if self.ball.order == inf:
            return gradient.sign()
        return gradient / wide(length(gradient, self.ball).clamp(min=torch.finfo(gradient.dtype).tiny))

    def _direction(self, generator: torch.Generator) -> Tensor:
        if self.ball.order == inf:
            return 2 * torch.rand(self.x.shape[1:], generator=generator) - 1
        u = torch.randn(self.x.shape[1:], generator=generator)
        return u / torch.linalg.vector_norm(u, dim=(1, 2, 3), keepdim=True)

    def advance(self, direction: Tensor, move: int) -> None:
        """Steps along ``direction`` by a ``sqrt(move)``-th of the distance, halved until that is wrong."""
        size = self._distance(self.point) / sqrt(move)
        waiting = self._live()
        for _ in range(HALVINGS):
            if self.over or not bool(waiting.any()):
                return
            point = (self.point + wide(size) * direction * self.ball.unit).clamp(0, 1).to(self.x.dtype)
            point = self._movable(torch.where(wide(waiting), point, self.point))
            wrong = self._ask(point, waiting)
            self.point = torch.where(wide(wrong), point, self.point)
            waiting, size = waiting & ~wrong & self._live(), size / 2
