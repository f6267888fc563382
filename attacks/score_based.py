"""Black-box attacks that see scores: random search (arXiv 1902.06705) and Square (arXiv 1912.00049).

They propose a point, compare it with the best one and keep the better. If one breaks an example that gradient
attacks do not break, the gradients may be masked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, prod, sqrt

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.balls import Ball
from attacks.estimators import Estimator
from attacks.losses import margin_loss
from attacks.solver import Problem, Solver, wide

Propose = Callable[[int, Tensor], Tensor]  # number of the query, best points -> candidates like them


def search(
    first: Tensor, propose: Propose, steps: int, y: Tensor, estimator: Estimator, *, early_stop: bool
) -> Tensor:
    """The points with the largest margin loss so far, ``[G, K, C, H, W]``.

    A query is a whole batch, in which every slot holds one candidate: no two candidates of an example share a
    batch. If an example's loss depends on a draw or on its batch, one lucky value would block all better
    candidates. Each candidate is then compared with the best point under the same draws, two queries at a
    time, and no wrong answer ends the search.

    Args:
        first: the first candidates.
        steps: queries, including those of kept points.
        y: true classes ``[G, K]``.
        early_stop: see ``attacks.solver.Solver``.
    """
    best = first
    if not estimator.per_example:
        for query in range(1, steps, 2):
            candidate = propose(query, best)
            current, estimate = estimator.compare([best, candidate], y, margin_loss)
            best = torch.where(wide(estimate.loss > current.loss), candidate, best)
        return best
    estimate = estimator.value(best, y, margin_loss)
    best_loss, wrong = estimate.loss, estimate.logits.argmax(-1) != y
    for query in range(1, steps):
        if early_stop and bool(wrong.all()):
            break
        candidate = propose(query, best)
        # Random numbers are drawn for all slots: an example's do not depend on which others are live.
        live = ~wrong if early_stop else torch.ones_like(wrong)
        estimate = estimator.of_live(candidate, y, margin_loss, live)
        better = live & (estimate.loss > best_loss)
        best = torch.where(wide(better), candidate, best)
        best_loss = torch.where(better, estimate.loss, best_loss)
        wrong = wrong | (live & (estimate.logits.argmax(-1) != y))
    return best


@Algorithm(
    "Random",
    "random search",
    example=1000,
    paper="1902.06705",
    takes=("steps", "apart"),
    norms=("linf", "l2", "l1", "l0"),
    family="search",
)
@dataclass(frozen=True)
class RandomSearch(Solver):
    """Alternates corners of the ball (random signs) and uniform points inside; returns the best one.

    Attributes:
        steps: queries; the estimator decides what each costs.
        apart: the share of the best point's pixels that each query draws again, corners all; 0 for points of
            their own. Queries so far apart stay below the threshold of a detector of near-duplicates, which
            those of a finer search do not (arXiv 2303.06280).
    """

    steps: int
    apart: float = 0

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; ``start`` replaces the first point."""
        x, y, estimator, budget, generators, start = problem
        ball = budget.around(x)
        corner = True

        def point(query: int, best: Tensor) -> Tensor:
            nonlocal corner
            if self.apart:
                flip = each_batch(generators, lambda g: torch.rand(x.shape[1:], generator=g) < self.apart)
                return torch.where(flip.to(x.device), ball.random_sign(generators), best)
            corner = not corner
            return ball.random_sign(generators) if corner else ball.uniform(generators)

        first = ball.random_sign(generators) if start is None else ball.project_(start.clone())
        return search(first, point, self.steps, y, estimator, early_stop=self.early_stop)


# The share of an image that a square covers, halved after these of 10,000 queries (as in the authors' code).
FIRST_SHARE = 0.8
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@Algorithm("Square", "Square attack", example=1000, paper="1912.00049", family="search", loss="margin")
@dataclass(frozen=True)
class Square(Solver):
    """Keeps a random square if it raises the margin loss; returns the best point.

    Attributes:
        steps: queries, including the first and those of kept points; the estimator decides what each costs.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; ``start`` replaces the stripes or tiles."""
        x, y, estimator, budget, generators, start = problem
        ball = budget.around(x)
        candidate = _linf_candidate if ball.order == inf else _l2_candidate
        first = _stripes if ball.order == inf else _tiles

        def square(query: int, best: Tensor) -> Tensor:
            return candidate(best, x, ball, _side(query, self.steps, x), generators)

        begun = first(x, ball, generators) if start is None else ball.project_(start.clone())
        return search(begun, square, self.steps, y, estimator, early_stop=self.early_stop)


def _side(query: int, steps: int, x: Tensor) -> int:
    """The side of the query's square, in pixels."""
    height, width = x.shape[-2:]
    passed = query * 10_000 // steps
    share = FIRST_SHARE / 2 ** sum(passed > after for after in HALVED_AFTER)
    return min(max(round(sqrt(share * height * width)), 1), height, width)


# --- l-infinity: corners of the ball, one sign a channel -------------------------------------------


def _stripes(x: Tensor, ball: Ball, generators: Sequence[torch.Generator]) -> Tensor:
    _, k, channels, _, width = x.shape
    return ball.project_(x + 2 * ball.radius * ball.unit * _signs((k, channels, 1, width), x, generators))


def _linf_candidate(
    best: Tensor, x: Tensor, ball: Ball, side: int, generators: Sequence[torch.Generator]
) -> Tensor:
    inside = _window(x, side, generators)
    moved = 2 * ball.radius * ball.unit * _signs((*x.shape[1:3], 1, 1), x, generators)
    return ball.project_(torch.where(inside, best + moved, best))


# --- l2: bumps of two signs, which take the norm of another window --------------------------------


def _tiles(x: Tensor, ball: Ball, generators: Sequence[torch.Generator]) -> Tensor:
    _, k, channels, height, width = x.shape
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    signs = _signs((k, channels, down, across), x, generators)
    spread = signs.repeat_interleave(side, -2).repeat_interleave(side, -1)
    u = torch.zeros_like(x)
    u[..., : down * side, : across * side] = spread * _bumps(side, x).repeat(down, across)
    return ball.project_(x + u / _length(u, (2, 3, 4)) * ball.radius * ball.unit)


def _l2_candidate(
    best: Tensor, x: Tensor, ball: Ball, side: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """Algorithm 3 of the paper, in units of the ball."""
    height, width = x.shape[-2:]
    # Two bumps need an odd side of at least 3.
    side = min(max(side + (side + 1) % 2, 3), height, width)
    u = (best - x) / ball.unit
    taker, giver = (_window(x, side, generators) for _ in range(2))
    turned = _signs((x.shape[1], 1, 1, 1), x, generators) > 0
    bumps = _bumps(side, x)
    pattern = torch.where(turned, _place(bumps, taker, side), _place(bumps.T, taker, side))
    pattern = pattern * _signs((*x.shape[1:3], 1, 1), x, generators)
    each = (3, 4)  # a channel at a time
    old = torch.where(taker, u, 0)
    free = (ball.radius**2 - u.square().sum((2, 3, 4), keepdim=True)).clamp_(min=0) / x.shape[2]
    available = (torch.where(taker | giver, u, 0).square().sum(each, keepdim=True) + free).sqrt()
    new = pattern + old / _length(old, each)
    u = torch.where(taker, new / _length(new, each) * available, torch.where(giver, 0, u))
    return ball.project_(x + u * ball.unit)


def _place(pattern: Tensor, inside: Tensor, side: int) -> Tensor:
    """The side x side pattern in each example's window, zero outside."""
    placed = torch.zeros(inside.shape, dtype=pattern.dtype, device=pattern.device)
    # Row-major order of the True values inside each window is that of the pattern.
    placed[inside] = pattern.flatten().repeat(prod(inside.shape[:3]))
    return placed


def _bumps(side: int, like: Tensor) -> Tensor:
    """Two halves of opposite sign, each largest in its middle; ``[side, side]`` of norm 1."""
    upper = side // 2
    halves = [_bump(upper, side, like), -_bump(side - upper, side, like)]
    pattern = torch.cat(halves)
    return pattern / pattern.norm()


def _bump(height: int, width: int, like: Tensor) -> Tensor:
    if height == 0:
        return like.new_zeros(0, width)
    rows = (torch.arange(height, device=like.device) - height // 2).abs()
    columns = (torch.arange(width, device=like.device) - width // 2).abs()
    rings = max(height // 2, width // 2) + 1
    weights = 1 / torch.arange(1, rings + 1, dtype=like.dtype, device=like.device) ** 2
    # The value in ring r from the middle is the sum of 1 / j^2 over the rings around it.
    falling = weights.flip(0).cumsum(0).flip(0)
    return falling[torch.maximum(rows[:, None], columns[None, :])]


def _length(u: Tensor, dims: tuple[int, ...]) -> Tensor:
    return u.square().sum(dims, keepdim=True).sqrt().clamp_(min=1e-12)


# --- random numbers, each batch from its own generator ---------------------------------------------


def each_batch(generators: Sequence[torch.Generator], draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    return torch.stack([draw(generator) for generator in generators])


def _signs(shape: tuple[int, ...], x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    drawn = each_batch(generators, lambda g: torch.randint(0, 2, shape, generator=g))
    return (2 * drawn - 1).to(x)


def _window(x: Tensor, side: int, generators: Sequence[torch.Generator]) -> Tensor:
    """``[G, K, 1, H, W]``, true in one square of each example."""
    k, (height, width) = x.shape[1], x.shape[-2:]
    top = each_batch(generators, lambda g: torch.randint(0, height - side + 1, (k, 1), generator=g))
    left = each_batch(generators, lambda g: torch.randint(0, width - side + 1, (k, 1), generator=g))
    rows = torch.arange(height) - top
    columns = torch.arange(width) - left
    inside_rows = ((rows >= 0) & (rows < side))[:, :, None, :, None]
    inside_columns = ((columns >= 0) & (columns < side))[:, :, None, None, :]
    return (inside_rows & inside_columns).to(x.device)
