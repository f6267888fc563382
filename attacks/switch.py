"""Two stages: a smooth move to where the answer jumps, then an ascent that stays behind the jump.

A defence may have a switch (a gate, a route, a rejection, a hash, logits that overflow) which decides who
answers. A move that flips it need not lower any margin, so that no ascent on a loss makes it, and a random
start, whose values cancel, does not either. Smooth moves do not cancel. They are scanned for jumps, which are
told from slopes by bisection: a jump does not shrink with the interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.algorithm import Algorithm, Cost
from attacks.attack import Attack
from attacks.balls import Ball
from attacks.estimators import Estimator
from attacks.losses import margin_loss
from attacks.solver import Problem, Solver, larger, wide

FRACTIONS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)  # of the ball's radius
HALF = (-0.5, 0.0, 0.5)  # on top of an ascent in half the ball
UPHILL = 4  # steps of that ascent
WAVES = 4  # random fields of low frequency beside the fixed ones
FLIPS = 3  # jumps of each input that are looked into
BISECTIONS = 6
JUMP = 0.5  # of the change over the whole interval that remains in a 64th of it
SCAN = 220  # forwards of smooth moves and bisections, about


def queries(attack: Attack, randomised: bool) -> Cost:
    """Approximate cost (``Algorithm.cost``): most networks have no jumps, behind which to ascend."""
    return Cost(SCAN, UPHILL + 1)


def true_logit(logits: Tensor, y: Tensor) -> Tensor:
    """The true class's logit ``[...]``, as a loss that an attack raises."""
    return logits.gather(-1, y.unsqueeze(-1)).squeeze(-1)


@Algorithm(
    "Switch",
    "smooth moves to jumps of the answer, then ascent",
    example=20,
    cost=queries,
    costs="220 queries, 5 gradients and more behind a jump",
    informative=False,
)
@dataclass(frozen=True)
class Switch(Solver):
    """Smooth moves to where the answer jumps, then steps behind the jump; returns the best point seen.

    An input costs about 260 forwards, five gradients, and ``FLIPS * steps`` gradients where an input that is
    attacked with it has a jump.

    Attributes:
        steps: of the ascent behind each jump.
        early_stop: stop looking behind jumps once every input is answered wrongly.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; ``start`` is one of the points compared."""
        x, y, estimator, budget, generators, start = problem
        ball = budget.around(x)
        best = x.clone() if start is None else ball.project_(start.clone())
        first = estimator.value(best, y, margin_loss)
        # The last one raises the true class's logit: the way that no attack on a margin goes.
        reached, moves = (
            first.loss,
            [*_fields(x, generators), estimator.gradient(x, y, true_logit).grad.sign()],
        )
        jumps: list[tuple[Tensor, Tensor, Tensor]] = []  # size, and the two ends of the interval
        halfway = self._halfway(x, y, estimator, ball, budget.eps)
        scans = [(x, move, FRACTIONS) for move in moves] + [(halfway, move, HALF) for move in moves]
        for origin, move, fractions in scans:
            points = [_moved(origin, move, fraction, ball) for fraction in fractions]
            answers = estimator.compare(points, y, margin_loss)  # under the same draws
            for at, estimate in zip(points, answers):
                best, reached = _better(estimator, best, reached, at, estimate.loss)
            for i in range(1, len(points)):
                size = (answers[i].logits - answers[i - 1].logits).abs().amax(-1)
                ends = points[i - 1 : i + 1]
                jumps.append((size, *(ends if fractions[i] > 0 else reversed(ends))))  # the far one last
        sizes = torch.stack([size for size, _, _ in jumps])
        for chosen in sizes.topk(FLIPS, dim=0).indices:
            near, far = (_picked([jump[end] for jump in jumps], chosen) for end in (1, 2))
            whole = sizes.gather(0, chosen[None])[0]
            if not bool(self._jumps(near, far, y, whole, estimator).any()):
                continue
            if self.early_stop and bool((reached > 0).all()):
                break
            best, reached = self._behind(far, problem, ball, best, reached)
        return best

    def _halfway(self, x: Tensor, y: Tensor, estimator: Estimator, ball: Ball, eps: float) -> Tensor:
        """Uphill in half the ball: what a switch decides may show only where a margin is low."""
        at = x
        for _ in range(UPHILL):
            grad = estimator.gradient(at, y, margin_loss).grad
            at = ball.step_(at.clone(), grad, eps / 2 / UPHILL)
        return at

    def _jumps(self, a: Tensor, b: Tensor, y: Tensor, whole: Tensor, estimator: Estimator) -> Tensor:
        """``[G, K]``, whether the answer jumps between two points, as bisections tell."""
        jump = whole
        for _ in range(BISECTIONS):
            middle = (a + b) / 2
            estimates = estimator.compare([a, middle, b], y, margin_loss)
            first, second = ((estimates[i + 1].logits - estimates[i].logits).abs().amax(-1) for i in range(2))
            a = torch.where(wide(first > second), a, middle)
            b = torch.where(wide(first > second), middle, b)
            jump = torch.maximum(first, second)
        return jump > JUMP * whole

    def _behind(
        self, at: Tensor, problem: Problem, ball: Ball, best: Tensor, reached: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Steps uphill across the move that led there; then single values, those first that promise most, of
        which a part of the move is enough. What lowers the margin is taken back, and the next step is halved.
        """
        x, y, estimator, eps = problem.x, problem.y, problem.estimator, problem.budget.eps
        deep = ball.project_(x + 4 * (at - x))  # where it may give way most without coming back
        first, second = estimator.compare([at, deep], y, margin_loss)
        at = torch.where(wide(larger(estimator, second.loss, first.loss)), deep, at)
        move = at - x
        still = (move != 0).flatten(2).float().mean(2) < 0.5  # a move of few values: the others are free
        size = torch.full(y.shape, 1.0, dtype=x.dtype, device=x.device)  # of eps / 2, or of half the values
        held = torch.full_like(size, -torch.inf)
        grad, here = torch.zeros_like(x), at
        for number in range(self.steps):
            estimate = estimator.gradient(at, y, margin_loss)
            best, reached = _better(estimator, best, reached, at, estimate.loss)
            rose = wide(larger(estimator, estimate.loss, held))
            size = torch.where(rose[..., 0, 0, 0], size, size / 2)
            held = torch.where(rose[..., 0, 0, 0], estimate.loss, held)
            here, grad = torch.where(rose, at, here), torch.where(rose, estimate.grad, grad)
            if number == self.steps // 2:
                size = torch.ones_like(size)
            if number < self.steps // 2:
                step = ball.step_(here.clone(), grad, size * eps / 2) - here
                step = torch.where(wide(still) & (move != 0), 0, step)
                along = (step * move).flatten(2).sum(2) / (move**2).flatten(2).sum(2).clamp(min=1e-30)
                at = ball.project_(here + step - wide(along) * move)
            else:
                step = ball.step_(here.clone(), grad, 2 * eps) - here
                at = ball.project_(here + step * _most_promising(step * grad, size / 2))
        return best, reached


def _most_promising(gains: Tensor, share: Tensor) -> Tensor:
    """True for the values with the largest gains, ``share`` ``[G, K]`` of those with any."""
    flat = gains.flatten(2)
    counts = (share * (flat > 0).sum(2)).ceil().long().clamp(min=1)
    least = flat.sort(2, descending=True).values.gather(2, counts.unsqueeze(2) - 1)
    return (flat >= least).view_as(gains)


def _better(
    estimator: Estimator, best: Tensor, reached: Tensor, at: Tensor, loss: Tensor
) -> tuple[Tensor, Tensor]:
    more = larger(estimator, loss, reached)
    return torch.where(wide(more), at, best), torch.where(more, loss, reached)


def _picked(points: list[Tensor], chosen: Tensor) -> Tensor:
    """For each input the one of ``points`` that ``chosen`` ``[G, K]`` names."""
    picked = points[0].clone()
    for number, point in enumerate(points):
        picked = torch.where(wide(chosen == number), point, picked)
    return picked


def _moved(x: Tensor, move: Tensor, fraction: float, ball: Ball) -> Tensor:
    """``x`` moved along ``move`` by a fraction of what the ball allows."""
    move = move.expand(*x.shape)  # a pattern is added to every channel
    length = torch.linalg.vector_norm(move, ball.order, (2, 3, 4), keepdim=True).clamp(min=1e-30)
    return ball.project_(x + fraction * ball.radius * ball.unit * move / length)


def _fields(x: Tensor, generators: Sequence[torch.Generator]) -> list[Tensor]:
    """Moves ``[1 or G, 1, 1, H, W]`` of one pattern: even, ramps, halves, quarters, borders, low frequencies,
    and the highest, which are rows, columns and squares of one pixel that alternate."""
    height, width = x.shape[-2:]
    down, across = (torch.linspace(-1, 1, size, dtype=x.dtype) for size in (height, width))
    even = torch.ones(height, width, dtype=x.dtype)
    ramps = [down[:, None] * even, across[None] * even]
    sides = (across.abs() == 1)[None] * even, (down.abs() == 1)[:, None] * even
    patterns = [even, *ramps, *(ramp.sign() for ramp in ramps), (ramps[0] * ramps[1]).sign(), *sides]
    rows_alternate, columns_alternate = (
        1 - 2 * (torch.arange(size) % 2).to(x.dtype) for size in (height, width)
    )
    patterns += [rows_alternate[:, None] * even, columns_alternate * even]
    patterns.append(patterns[-2] * patterns[-1])
    fields = [field.view(1, 1, 1, height, width) for field in patterns]
    basis = [torch.cos(torch.pi * order * (at + 1) / 2) for at in (down, across) for order in range(3)]
    rows, columns = torch.stack(basis[:3]), torch.stack(basis[3:])
    for _ in range(WAVES):
        drawn = torch.stack([torch.randn(3, 3, generator=generator) for generator in generators])
        waves = torch.einsum("gab,ah,bw->ghw", drawn.to(x.dtype), rows, columns)
        fields.append(waves.view(-1, 1, 1, height, width))
    return [field.to(x.device) for field in fields]
