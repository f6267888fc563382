"""RayS (arXiv 2006.12792): searches directions of signs for the nearest wrong answer, by labels alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.balls import Ball
from attacks.decisions import Decisions, begin, room, start_images
from attacks.solver import Problem, Solver, wide

# A direction is tried at a distance shorter than the best one by this share, and searched as exactly.
PRECISION = 1 / 512
# Where answers depend on randomness or the batch: bisections at the beginning, and by what factor the
# distance changes after each comparison.
HALVINGS, DRIFT = 6, 1.03


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
        rays.signs, begun = begin(decisions, first, lambda signs: rays.at(rays.distance, signs))
        if estimator.per_example:
            return ball.project_(_by_distance(rays, decisions, begun, early_stop=self.early_stop))
        return ball.project_(_by_share(rays, decisions))


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
        self.distance = room(ball, x)
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
    for image in start_images(x, generators):
        yield _towards(image, x)


def _towards(image: Tensor, x: Tensor) -> Tensor:
    """The signs of the way from x to another image; where they are equal, to where the box ends soon."""
    way = torch.where(image == x, x - 0.5, image - x)
    return torch.where(way < 0, -1.0, 1.0).to(x)
