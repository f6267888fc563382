"""Gradient ascent in subsets of the ball, for defences that notice how a usual attack moved their input.

Gradient attacks move every value as far as it may go, and a defence can notice that: by how many values
moved, where, which way, or how far. It then answers by a model whose slope leads nowhere. ``greedy`` moves
the few values that promise most (saliency as in JSMA, arXiv 1511.07528; corners of the ball as in arXiv
1905.06635), ``parts`` searches parts of the ball in turn, ``growing`` balls of growing radius. Each subset
lies in the ball of eps: where one of them finds more, the other attacks failed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.attack import larger, wide
from attacks.estimators import Estimator
from attacks.losses import cross_entropy, margin_loss
from attacks.perturbation_budget import Ball, PerturbationBudget


def ascended(
    ascent: Callable[[Tensor, Tensor, Tensor, Estimator, PerturbationBudget], Tensor],
    x: Tensor,
    y: Tensor,
    begun: Tensor,
    estimator: Estimator,
    budget: PerturbationBudget,
    *,
    early_stop: bool,
) -> Tensor:
    """What ``ascent(x, y, begun, estimator, budget)`` makes of ``[G, K, C, H, W]``, in that shape.

    With ``early_stop`` examples are independent, so all batches are handed over as one.

    Raises:
        ValueError: ``early_stop`` with a budget that differs between slots.
    """
    if not early_stop:
        return ascent(x, y, begun, estimator, budget)
    budget.check_one_eps()
    x_all, y_all, begun_all = (of.flatten(0, 1)[None] for of in (x, y, begun))
    return ascent(x_all, y_all, begun_all, estimator, budget).view_as(x)


@dataclass(frozen=True)
class Greedy:
    """Returns the last point that was better than the one before it.

    Attributes:
        steps: gradients; all but the first judge a step, so that there are at least 2.
        early_stop: stop on an example at its first wrong answer. Only for targets that answer inputs one by
            one and without randomness.
    """

    steps: int
    early_stop: bool = False

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"expected steps >= 2, got {self.steps}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; draws no random numbers.

        Raises:
            ValueError: also for ``early_stop`` with a budget that differs between slots.
        """
        begun = x.clone() if start is None else budget.around(x).project_(start.clone())
        return ascended(self._ascent, x, y, begun, estimator, budget, early_stop=self.early_stop)

    def _ascent(
        self, x: Tensor, y: Tensor, begun: Tensor, estimator: Estimator, budget: PerturbationBudget
    ) -> Tensor:
        loss = margin_loss if estimator.per_example else cross_entropy
        result, left = begun, torch.arange(x.shape[1], device=x.device)  # positions of the rows below
        at, tried = begun, begun
        values = -(-x[0, 0].numel() // (self.steps - 1))  # so that all can be moved
        reached = torch.full_like(y, -torch.inf, dtype=x.dtype)
        slope, moved = torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool)
        barred = torch.zeros_like(moved)
        ball = budget.around(x)
        for _ in range(self.steps):
            if estimator.exhausted:
                break
            found = estimator.gradient(tried, y, loss)
            assert found.grad is not None
            better = larger(estimator, found.loss, reached)
            reached = torch.where(better, found.loss, reached)
            at = torch.where(wide(better), tried, at)
            slope = torch.where(wide(better), found.grad, slope)
            barred |= moved & ~wide(better)
            if self.early_stop:
                result = result.index_copy(1, left, at)
                right = found.logits[0].argmax(-1) == y[0]
                if not bool(right.any()):
                    return result
                if not bool(right.all()):
                    left = left[right]
                    x, y, at, reached, slope, barred = (
                        of[:, right] for of in (x, y, at, reached, slope, barred)
                    )
                    ball = budget.around(x)
            tried, moved = _step(ball, at, slope, barred, budget.eps, values)
        return result.index_copy(1, left, at)


def _step(
    ball: Ball, at: Tensor, slope: Tensor, barred: Tensor, eps: float, values: int
) -> tuple[Tensor, Tensor]:
    """The next point to try, and which values of it were moved."""
    slope = slope.nan_to_num(0, 0, 0).masked_fill(barred, 0)
    size = 2 * eps if ball.order == torch.inf else eps / 2
    promise = (ball.step_(at.clone(), slope, size) - at) * slope
    most = promise.flatten(2).topk(values, dim=-1)
    chosen = torch.zeros_like(promise.flatten(2)).scatter_(-1, most.indices, (most.values > 0).to(promise))
    moved = chosen.view_as(at) > 0
    return ball.step_(at.clone(), slope * moved, size), moved


MOMENTUM = 0.75
FAR, NEAR = 0.5, 0.2  # steps of eps: in the first half of a part's steps, and in the second


@dataclass(frozen=True)
class Part:
    """Points of the ball that an attack confines itself to.

    Attributes:
        confine: a point and the clean input, ``[G, K, C, H, W]`` each, to the point that the part allows.
        share: how much of eps is used.
    """

    confine: Callable[[Tensor, Tensor], Tensor]
    share: float = 1.0


def _where(inside: Callable[[Tensor, Tensor], Tensor]) -> Part:
    """Keeps what moved ``inside``, a function of row and column, both 0 in the middle of the image."""

    def confine(at: Tensor, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        row = torch.arange(height, device=x.device)[:, None] - (height - 1) / 2
        column = torch.arange(width, device=x.device) - (width - 1) / 2
        return torch.where(inside(row, column).expand(height, width), at, x)

    return Part(confine)


PARTS = (
    Part(torch.maximum),
    Part(torch.minimum),
    Part(lambda at, x: at, share=0.5),
    _where(lambda row, column: row <= 0),
    _where(lambda row, column: row > 0),
    _where(lambda row, column: column <= 0),
    _where(lambda row, column: column > 0),
    _where(lambda row, column: row <= column),
    _where(lambda row, column: row > column),
    _where(lambda row, column: row + column <= 0),
    _where(lambda row, column: row + column > 0),
    _where(lambda row, column: (row + column) % 2 < 1),
)


@dataclass(frozen=True)
class Parts:
    """PGD with momentum on the margin, from the clean input, in each part; returns the best point of all.

    Attributes:
        steps: gradients, divided among the parts; at least two for each.
        early_stop: stop on an example at its first wrong answer. Only for targets that answer inputs one by
            one and without randomness.
    """

    steps: int
    early_stop: bool = False

    def __post_init__(self) -> None:
        if self.steps < 2 * len(PARTS):
            raise ValueError(f"expected steps >= {2 * len(PARTS)}, got {self.steps}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; draws no random numbers. A start is confined to each part.

        Raises:
            ValueError: also for ``early_stop`` with a budget that differs between slots.
        """
        begun = x.clone() if start is None else budget.around(x).project_(start.clone())
        return ascended(self._ascent, x, y, begun, estimator, budget, early_stop=self.early_stop)

    def _ascent(
        self, x: Tensor, y: Tensor, begun: Tensor, estimator: Estimator, budget: PerturbationBudget
    ) -> Tensor:
        loss = margin_loss if estimator.per_example else cross_entropy
        result, left = begun.clone(), torch.arange(x.shape[1], device=x.device)  # positions of the rows below
        best, reached = begun, torch.full_like(y, -torch.inf, dtype=x.dtype)
        turns = self.steps // len(PARTS)
        for part in PARTS:
            within = replace(budget, eps=part.share * budget.eps)
            ball = within.around(x)
            at, velocity = part.confine(ball.project_(begun.clone()), x), torch.zeros_like(x)
            for turn in range(turns):
                if estimator.exhausted:
                    return result.index_copy(1, left, best)
                found = estimator.gradient(at, y, loss)
                assert found.grad is not None
                better = larger(estimator, found.loss, reached)
                reached = torch.where(better, found.loss, reached)
                best = torch.where(wide(better), at, best)
                slope = found.grad
                if self.early_stop:
                    result = result.index_copy(1, left, best)
                    right = found.logits[0].argmax(-1) == y[0]
                    if not bool(right.any()):
                        return result
                    if not bool(right.all()):
                        left = left[right]
                        x, y, begun, best, at, velocity, slope, reached = (
                            of[:, right] for of in (x, y, begun, best, at, velocity, slope, reached)
                        )
                        ball = within.around(x)
                slope = slope.nan_to_num(0, 0, 0)
                length = slope.abs().flatten(2).sum(2)
                velocity = MOMENTUM * velocity + slope / wide(length.clamp(min=1e-30))
                size = (FAR if 2 * turn < turns else NEAR) * within.eps
                at = part.confine(ball.step_(at.clone(), velocity, size), x)
        return result.index_copy(1, left, best)


STAGES = 8
RISE = 0.25  # of eps by which a ball grows at first; halved where the larger one holds nothing better


@dataclass(frozen=True)
class Growing:
    """PGD with momentum on the margin, from the clean input, in one ball after another.

    Each ball is searched from the best point so far. Where it holds a better one, it is the next ball's core,
    and else the next is smaller: the radius ends near the largest at which the same model answers.

    Attributes:
        steps: gradients, divided among ``STAGES`` balls; at least two for each.
        early_stop: stop on an example at its first wrong answer. Only for targets that answer inputs one by
            one and without randomness.
    """

    steps: int
    early_stop: bool = False

    def __post_init__(self) -> None:
        if self.steps < 2 * STAGES:
            raise ValueError(f"expected steps >= {2 * STAGES}, got {self.steps}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; draws no random numbers. A start is projected onto the first ball.

        Raises:
            ValueError: also for ``early_stop`` with a budget that differs between slots.
        """
        begun = x.clone() if start is None else budget.around(x).project_(start.clone())
        return ascended(self._ascent, x, y, begun, estimator, budget, early_stop=self.early_stop)

    def _ascent(
        self, x: Tensor, y: Tensor, begun: Tensor, estimator: Estimator, budget: PerturbationBudget
    ) -> Tensor:
        loss = margin_loss if estimator.per_example else cross_entropy
        result, left = x.clone(), torch.arange(x.shape[1], device=x.device)  # positions of the rows below
        best, reached = x.clone(), torch.full_like(y, -torch.inf, dtype=x.dtype)
        core, rise = torch.zeros_like(reached), torch.full_like(reached, RISE)
        turns, scale = self.steps // STAGES, budget.eps_scale
        for stage in range(STAGES):
            share = (core + rise).clamp(max=1)
            ball = replace(budget, eps_scale=share if scale is None else share * scale).around(x)
            at = ball.project_((best if stage else begun).clone())
            velocity, before = torch.zeros_like(x), reached
            for turn in range(turns):
                if estimator.exhausted:
                    return result.index_copy(1, left, best)
                found = estimator.gradient(at, y, loss)
                assert found.grad is not None
                better = larger(estimator, found.loss, reached)
                reached = torch.where(better, found.loss, reached)
                best = torch.where(wide(better), at, best)
                slope = found.grad.nan_to_num(0, 0, 0)
                if self.early_stop:
                    result = result.index_copy(1, left, best)
                    right = found.logits[0].argmax(-1) == y[0]
                    if not bool(right.any()):
                        return result
                    if not bool(right.all()):
                        left = left[right]
                        x, y, best, at, velocity, slope, reached, before, core, rise, share = (
                            of[:, right]
                            for of in (
                                x, y, best, at, velocity, slope, reached, before, core, rise, share
                            )
                        )  # fmt: skip
                        ball = replace(budget, eps_scale=share).around(x)
                velocity = MOMENTUM * velocity + slope / wide(slope.abs().flatten(2).sum(2).clamp(min=1e-30))
                size = (FAR if 2 * turn < turns else NEAR) * budget.eps
                at = ball.step_(at.clone(), velocity, size)
            grew = reached > before
            core = torch.where(grew, share, core)
            rise = torch.where(grew, rise, rise / 2)
        return result.index_copy(1, left, best)
