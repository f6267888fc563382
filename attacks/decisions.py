"""Decisions of a target that reveals its label alone: is each example answered wrongly?"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor

from attacks.balls import Ball
from attacks.estimators import Estimator
from attacks.perturbation_budget import PerturbationBudget
from attacks.solver import wide


def mistaken(logits: Tensor, y: Tensor) -> Tensor:
    """1 where ``logits`` ``[..., classes]`` are answered with another class than ``y`` ``[...]``, else 0.

    Averaged over draws by an estimator, this is the share of draws that are answered wrongly.
    """
    return (logits.argmax(-1) != y).to(logits.dtype)


# Places to look for a first wrong answer, the other inputs of the batch first.
STARTS = 20


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
            live: ``[G, K]``, the examples to ask about, None for all. The others get 0. Only for targets that
                answer inputs one by one.
        """
        self.questions += 1
        if live is None or bool(live.all()):
            return self.estimator.value(x, self.y, mistaken).loss
        share = torch.zeros(self.y.shape, dtype=x.dtype, device=x.device)
        share[live] = self.estimator.value(x[live][None], self.y[live][None], mistaken).loss[0]
        return share

    def wrong(self, x: Tensor, live: Tensor | None = None) -> Tensor:
        """``[G, K]``: whether most of the fresh draws are answered wrongly."""
        return self.wrong_share(x, live) > 0.5

    def compare(self, xs: Sequence[Tensor]) -> list[Tensor]:
        """The share of wrong draws of each of ``xs``, ``[G, K]`` each, under the same draws."""
        self.questions += len(xs)
        return [estimate.loss for estimate in self.estimator.compare(xs, self.y, mistaken)]


def start_images(x: Tensor, generators: Sequence[torch.Generator]) -> Iterator[Tensor]:
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


def begin(
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


def room(ball: Ball, x: Tensor) -> Tensor:
    """``[G, K]``: the largest distance from x0 at which a slot may be queried, in the ball's units.

    A decision-based attack starts far away, so that is the whole box; 0 for a slot that is held.
    """
    whole = length(x.new_ones(x.shape) / ball.unit, ball)
    held = (ball.radius <= 0).flatten(2).all(-1).expand(x.shape[:2])
    return torch.where(held, 0, whole)


def length(u: Tensor, ball: Ball) -> Tensor:
    """The norm of ``u`` ``[G, K, C, H, W]`` in which the ball is measured, ``[G, K]``."""
    return torch.linalg.vector_norm(u.flatten(2), ord=ball.order, dim=-1)


def inside(decisions: Decisions, budget: PerturbationBudget, x: Tensor, point: Tensor) -> Tensor:
    """The result in the ball: each example's nearest wrong answer, or the edge of the ball in that direction.

    Where an answer depends on chance or the batch, a point that is only just beyond the boundary is answered
    wrongly by half of the draws. So both points are queried under the same draws; the better one stays.

    Args:
        x: clean inputs.
        point: points in the box, the nearest ones known to be answered wrongly.
    """
    ball = budget.around(x)
    near = ball.project_(point.clone())
    if decisions.estimator.per_example:
        return near
    u = (point - x) / ball.unit
    factor = ball.radius / wide(length(u, ball).clamp(min=torch.finfo(u.dtype).tiny))
    edge = ball.project_((x + u * ball.unit * factor.clamp(min=1)).clamp_(0, 1))
    inner, other = decisions.compare([near, edge])
    return torch.where(wide(other >= inner), edge, near)
