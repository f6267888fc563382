"""Black-box attacks: random search (arXiv 1902.06705) and Square (arXiv 1912.00049) see scores; RayS (arXiv
2006.12792) searches directions of signs for the nearest wrong answer, by labels alone.

The first two propose a point, compare it with the best one and keep the better. If one breaks an example that
gradient attacks do not break, the gradients may be masked.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
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


# A direction is tried at a distance shorter than the best one by this share, and searched as exactly.
PRECISION = 1 / 512
# Where answers depend on randomness or the batch: bisections at the beginning, and by what factor the
# distance changes after each comparison.
HALVINGS, DRIFT = 6, 1.03
# Places to look for a first wrong answer, the other inputs of the batch first.
STARTS = 20


@Algorithm(
    "RayS",
    "RayS (labels only)",
    example=1000,
    paper="2006.12792",
    norms=("linf", "l2"),
    family="decision",
    loss=None,
)
@dataclass(frozen=True)
class Rays(Solver):
    """The distance at which a ray leaves the right class, made smaller by flipping blocks of signs.

    Blocks are half as long at every level (algorithms 1 and 3 of the paper). Each example is at its own place
    in the search, so that every question asks something about every example. eps is the first distance that a
    better ray is searched at, for that decides. Where answers depend on randomness or the batch, two rays are
    compared by their shares of wrong draws instead.

    Attributes:
        steps: queries; each costs what the estimator takes.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; the first ray is that of ``start``, else one sign a channel."""
        x, y, estimator, budget, generators, start = problem
        ball = budget.around(x)
        decisions = Decisions(estimator, y, self.steps)
        rays = _Rays(x, ball)
        first = _first_rays(x, generators, start)
        rays.signs, begun = _begin(decisions, first, lambda signs: rays.at(rays.distance, signs))
        if estimator.per_example:
            return ball.project_(_by_distance(rays, decisions, begun, early_stop=self.early_stop))
        return ball.project_(_by_share(rays, decisions))


def mistaken(logits: Tensor, y: Tensor) -> Tensor:
    """1 where ``logits`` ``[..., classes]`` are answered with another class than ``y`` ``[...]``, else 0.

    Averaged over draws by an estimator, this is the share of draws that are answered wrongly.
    """
    return (logits.argmax(-1) != y).to(logits.dtype)


@dataclass
class Decisions:
    """Asks for labels, and counts the questions.

    Attributes:
        estimator: the target; it averages over draws where the target is randomised.
        y: true classes ``[G, K]``.
        steps: the number of questions allowed; each is a whole batch, one candidate a slot.
        questions: asked so far.
    """

    estimator: Estimator
    y: Tensor
    steps: int
    questions: int = 0

    @property
    def at_once(self) -> int:
        """How many points are queried side by side: two under the same draws if the target is random."""
        return 1 if self.estimator.per_example else 2

    @property
    def over(self) -> bool:
        """True if the remaining questions do not suffice for so many points."""
        return self.questions + self.at_once > self.steps

    def wrong_share(self, x: Tensor, live: Tensor | None = None) -> Tensor:
        """``[G, K]``: the share of fresh draws under which ``x`` ``[G, K, C, H, W]`` is answered wrongly.

        Args:
            x: candidates in [0, 1].
            live: ``[G, K]``, the examples to ask about, None for all; the others get -inf.
        """
        self.questions += 1
        live = torch.ones_like(self.y, dtype=torch.bool) if live is None else live
        return self.estimator.of_live(x, self.y, mistaken, live).loss

    def wrong(self, x: Tensor, live: Tensor | None = None) -> Tensor:
        """``[G, K]``: whether most of the fresh draws are answered wrongly."""
        return self.wrong_share(x, live) > 0.5

    def compare(self, xs: Sequence[Tensor]) -> list[Tensor]:
        """The share of wrong draws of each of ``xs``, ``[G, K]`` each, under the same draws."""
        self.questions += len(xs)
        return [estimate.loss for estimate in self.estimator.compare(xs, self.y, mistaken)]


class _Rays:
    """Each example's best ray, the one it tries and its place in the hierarchy of blocks.

    Distances are in the ball's units, ``[G, K]``.
    """

    def __init__(self, x: Tensor, ball: Ball):
        self.x, self.ball = x, ball
        self.signs = torch.ones_like(x)
        self.radius = ball.radius.flatten(2).amax(-1).expand(x.shape[:2])
        # A sign vector has norm 1 in linf and sqrt(values) in l2.
        self.norm = 1.0 if ball.order == torch.inf else x[0, 0].numel() ** 0.5
        # A search starts far away, with room for the whole box; a slot that is held has none.
        whole = torch.linalg.vector_norm((x.new_ones(x.shape) / ball.unit).flatten(2), ord=ball.order, dim=-1)
        held = (ball.radius <= 0).flatten(2).all(-1).expand(x.shape[:2])
        self.distance = torch.where(held, 0, whole)
        self.level = torch.zeros(x.shape[:2], dtype=torch.long, device=x.device)
        self.block = torch.zeros_like(self.level)

    def at(self, distance: Tensor, signs: Tensor) -> Tensor:
        """The points of the rays at these distances, inside the box."""
        return (self.x + wide(distance / self.norm) * signs * self.ball.unit).clamp_(0, 1).to(self.x.dtype)

    def flipped(self) -> Tensor:
        """The best rays with the signs of the next block turned round."""
        place = torch.arange(self.x[0, 0].numel(), device=self.x.device)
        size = self._size()
        first = (self.block * size)[..., None]
        flip = (place >= first) & (place < first + size[..., None])
        return torch.where(flip.view_as(self.signs), -self.signs, self.signs)

    def next_block(self, ended: Tensor) -> None:
        """Goes on to the next block where the search of one has ended, ``[G, K]``."""
        size, block = self._size(), self.block + 1
        # Sizes are rounded up, so a level's last blocks may be empty; after single values it begins again.
        deeper = ended & ((block * size >= self.x[0, 0].numel()) | (block >= 2**self.level))
        self.level = torch.where(deeper, torch.where(size <= 1, 0, self.level + 1), self.level)
        self.block = torch.where(deeper, 0, torch.where(ended, block, self.block))

    def _size(self) -> Tensor:
        return torch.ceil(self.x[0, 0].numel() / 2.0**self.level).long()


def _by_distance(rays: _Rays, decisions: Decisions, begun: Tensor, *, early_stop: bool) -> Tensor:
    """The paper's search, for answers that follow from the input alone; returns the nearest wrong points."""
    low, high, tried = torch.zeros_like(rays.distance), rays.distance, rays.signs
    bisecting = begun
    while not decisions.over:
        live = rays.distance > rays.radius if early_stop else None
        if live is not None and not bool(live.any()):
            break
        tried = torch.where(wide(bisecting), tried, rays.flipped())
        decisive = (low < rays.radius) & (rays.radius < high)
        middle = torch.where(decisive, rays.radius, (low + high) / 2)
        distance = torch.where(bisecting, middle, rays.distance * (1 - PRECISION))
        wrong = decisions.wrong(rays.at(distance, tried), live)
        rays.distance = torch.where(wrong, distance, rays.distance)
        rays.signs = torch.where(wide(wrong), tried, rays.signs)
        low = torch.where(wrong, torch.where(bisecting, low, 0), distance)
        high = torch.where(wrong, distance, high)
        ended = torch.where(bisecting, high - low <= PRECISION * high, ~wrong)
        bisecting = ~ended
        rays.next_block(ended)
    return rays.at(rays.distance, rays.signs)


def _by_share(rays: _Rays, decisions: Decisions) -> Tensor:
    """Rays compared by their shares of wrong draws, at a distance at which some draws are wrong, but not all.

    A short distance that was wrong by luck would turn all better rays away. So none is stored: two rays are
    queried under the same draws, at a distance that follows the answers and ends at the ball's edge.
    """
    distance, least = rays.distance, torch.minimum(rays.radius, rays.distance)
    for _ in range(HALVINGS):
        if decisions.over:
            break
        halved = torch.maximum(distance / 2, least)
        distance = torch.where(decisions.wrong(rays.at(halved, rays.signs)), halved, distance)
    while not decisions.over:
        tried = rays.flipped()
        own, other = decisions.compare([rays.at(distance, rays.signs), rays.at(distance, tried)])
        rays.signs = torch.where(wide(other > own), tried, rays.signs)
        more = torch.maximum(own, other) > 0.5
        distance = torch.maximum(torch.where(more, distance / DRIFT, distance * DRIFT), least)
        distance = torch.minimum(distance, rays.distance)
        rays.next_block(torch.ones_like(more))
    return rays.at(least, rays.signs)


def _first_rays(x: Tensor, generators: Sequence[torch.Generator], start: Tensor | None) -> Iterator[Tensor]:
    """Through ``start``; one random sign a channel and its opposite; then through other images."""
    if start is not None:
        yield _towards(start, x)
    drawn = torch.stack([torch.randint(0, 2, (*x.shape[1:3], 1, 1), generator=g) for g in generators])
    signs = (2 * drawn - 1).to(x).expand_as(x)
    yield from (signs, -signs)
    for image in _start_images(x, generators):
        yield _towards(image, x)


def _towards(image: Tensor, x: Tensor) -> Tensor:
    """The signs of the way from x to another image; where they are equal, to where the box ends soon."""
    way = torch.where(image == x, x - 0.5, image - x)
    return torch.where(way < 0, -1.0, 1.0).to(x)


def _begin(
    decisions: Decisions, candidates: Iterable[Tensor], place: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Each example's first candidate that is answered wrongly, else its last; and which are, ``[G, K]``.

    Args:
        candidates: at least one; like x each.
        place: from a candidate to the point that is queried.
    """
    starts = iter(candidates)
    chosen = next(starts)
    begun = torch.zeros_like(decisions.y, dtype=torch.bool)
    # In the end, the points of others of the batch.
    shifts = range(1, min(chosen.shape[1], STARTS // 2 + 1))
    starts = chain([chosen], starts, (chosen.roll(shift, 1) for shift in shifts))
    while some := tuple(islice(starts, decisions.at_once)):
        if decisions.over or bool(begun.all()):
            break
        if decisions.estimator.per_example:
            shares = [decisions.wrong_share(place(some[0]), ~begun)]
        else:
            shares = decisions.compare([place(candidate) for candidate in some])
        for candidate, share in zip(some, shares):
            chosen = torch.where(wide(begun), chosen, candidate)
            begun = begun | (share > 0.5)
    return chosen, begun


def _start_images(x: Tensor, generators: Sequence[torch.Generator]) -> Iterator[Tensor]:
    """Images like ``x`` that may be of another class: others of the batch, the negative, flat colours, noise.

    How many of them are taken changes no random number that is drawn later.
    """
    seeds = [int(torch.randint(0, 2**31, (), generator=generator)) for generator in generators]
    own = [torch.Generator().manual_seed(seed) for seed in seeds]
    k, channels, height, width = x.shape[1:]
    others = min(k - 1, STARTS // 2)
    for shift in range(1, others + 1):
        yield x.roll(shift, 1)
    yield 1 - x
    for count in range(STARTS - others - 1):
        shape = (k, channels, height, width) if count % 2 else (k, channels, 1, 1)
        # Of 0 and 1 alone: the corners of the box are far from everything.
        yield torch.stack([torch.randint(0, 2, shape, generator=g) for g in own]).to(x).expand_as(x)
