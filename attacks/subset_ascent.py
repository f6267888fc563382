"""Gradient ascent in subsets of the ball, for defences that notice how a usual attack moved their input.

Gradient attacks move every value as far as it may go, and a defence can notice that: by how many values
moved, where, which way, or how far. It then answers by a model whose slope leads nowhere. ``parts`` searches
parts of the ball in turn, ``growing`` balls of growing radius. Each subset lies in the ball of eps: where one
of them finds more, the other attacks failed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.balls import Ball
from attacks.losses import cross_entropy, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.solver import Problem, Solver, larger, wide

MOMENTUM = 0.75
FAR, NEAR = 0.5, 0.2  # steps of eps: in the first half of a run with momentum, and in the second


class _Examples(SimpleNamespace):
    """The state of each example: ``[G, K, ...]`` tensors, indexed together when examples stop.

    All have ``slot`` (the example's place in its batch), ``x``, ``y``, ``begun`` (where its search begins),
    ``at`` (the queried point), ``best`` and ``reached`` (the best point so far and its loss); once asked,
    ``grad`` at ``at`` and ``better``, whether that is the new best point.
    """

    def select(self, chosen: Tensor) -> "_Examples":
        return _Examples(**{name: tensor[:, chosen] for name, tensor in vars(self).items()})


class _Ascent:
    """The live examples and the best points so far, on the margin loss of ``[G, K]`` examples.

    Args:
        early_stop: leave examples out once they are answered wrongly. All batches then form one.

    Attributes:
        live: the examples still searched.

    Raises:
        ValueError: ``early_stop`` with a budget that differs between slots.
    """

    def __init__(self, problem: Problem, *, early_stop: bool):
        x, y, estimator, budget, _, start = problem
        self._shape, self.estimator, self.early_stop = x.shape, estimator, early_stop
        begun = x.clone() if start is None else budget.around(x).project_(start.clone())
        if early_stop:
            budget.check_one_eps()
            x, y, begun = (of.flatten(0, 1)[None] for of in (x, y, begun))
        self.loss = margin_loss if estimator.per_example else cross_entropy
        slot = torch.arange(y.shape[1], device=y.device).expand(y.shape)
        reached = torch.full_like(y, -torch.inf, dtype=x.dtype)
        self.live = _Examples(slot=slot, x=x, y=y, begun=begun, at=begun, best=begun, reached=reached)
        self._best = begun

    def result(self) -> Tensor:
        """The best points, shaped like the x that was given."""
        return self._best.index_copy(1, self.live.slot[0], self.live.best).view(self._shape)

    def ask(self) -> bool:
        """Queries ``live.at``. False once no example is live."""
        e = self.live
        estimate = self.estimator.gradient(e.at, e.y, self.loss)
        assert estimate.grad is not None
        e.grad, e.better = estimate.grad, larger(self.estimator, estimate.loss, e.reached)
        e.reached = torch.where(e.better, estimate.loss, e.reached)
        e.best = torch.where(wide(e.better), e.at, e.best)
        if self.early_stop:
            right = estimate.logits[0].argmax(-1) == e.y[0]
            if not bool(right.all()):
                self._best = self._best.index_copy(1, e.slot[0], e.best)
                self.live = e.select(right)
        return bool(self.live.slot.numel())

    def with_momentum(
        self,
        around: Callable[[_Examples], Ball],
        confine: Callable[[Tensor, Tensor], Tensor],
        eps: float,
        steps: int,
    ) -> bool:
        """PGD with momentum from ``live.at``; False once the search is over, as ``ask``.

        Args:
            around: the ball that the examples may move in.
            confine: a point and the clean input, ``[G, K, C, H, W]`` each, to the point that is allowed.
            eps: steps are shares of it.
            steps: gradients.
        """
        e, ball = self.live, around(self.live)
        e.velocity = torch.zeros_like(e.x)
        for step in range(steps):
            if not self.ask():
                return False
            if self.live is not e:
                e, ball = self.live, around(self.live)
            slope = e.grad.nan_to_num(0, 0, 0)
            length = slope.abs().flatten(2).sum(2)
            e.velocity = MOMENTUM * e.velocity + slope / wide(length.clamp(min=1e-30))
            size = (FAR if 2 * step < steps else NEAR) * eps
            e.at = confine(ball.step_(e.at.clone(), e.velocity, size), e.x)
        return True


@dataclass(frozen=True)
class _SubsetAscent(Solver):
    """Climbs from the clean input, or from a start once it is projected, and draws no random numbers.

    Attributes:
        steps: gradients.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``.

        Raises:
            ValueError: also for ``early_stop`` with a budget that differs between slots.
        """
        ascent = _Ascent(problem, early_stop=self.early_stop)
        self.climb(ascent, problem.budget)
        return ascent.result()

    def climb(self, ascent: _Ascent, budget: PerturbationBudget) -> None:
        """Asks about points until the steps are spent or the search is over."""
        raise NotImplementedError


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


@Algorithm("Parts", "ascent in parts of the ball", example=60, loss="margin", fewest_steps=24, partial=True)
class Parts(_SubsetAscent):
    """PGD with momentum on the margin, from the clean input, in each part; returns the best point of all.

    A start is confined to each part. The gradients are divided among the parts, at least two for each.
    """

    def climb(self, ascent: _Ascent, budget: PerturbationBudget) -> None:
        for part in PARTS:
            within, e = replace(budget, eps=part.share * budget.eps), ascent.live
            ball = within.around(e.x)
            e.at = part.confine(ball.project_(e.begun.clone()), e.x)
            if not ascent.with_momentum(
                lambda e, within=within: within.around(e.x),  # type: ignore[misc]
                part.confine,
                within.eps,
                self.steps // len(PARTS),
            ):
                break


STAGES = 8
RISE = 0.25  # of eps by which a ball grows at first; halved where the larger one holds nothing better


@Algorithm("Growing", "ascent in growing balls", example=48, loss="margin", fewest_steps=16, partial=True)
class Growing(_SubsetAscent):
    """PGD with momentum on the margin, from the clean input, in one ball after another.

    Each ball is searched from the best point so far. Where it holds a better one, it is the next ball's core,
    and else the next is smaller: the radius ends near the largest at which the same model answers. A start is
    projected onto the first ball. The gradients are divided among ``STAGES`` balls, at least two for each.
    """

    def climb(self, ascent: _Ascent, budget: PerturbationBudget) -> None:
        def around(e: _Examples) -> Ball:
            scale = e.share if budget.eps_scale is None else e.share * budget.eps_scale
            return replace(budget, eps_scale=scale).around(e.x)

        e = ascent.live
        e.core, e.rise = torch.zeros_like(e.reached), torch.full_like(e.reached, RISE)
        for stage in range(STAGES):
            e.share, e.before = (e.core + e.rise).clamp(max=1), e.reached
            e.at = around(e).project_((e.best if stage else e.begun).clone())
            if not ascent.with_momentum(around, lambda at, x: at, budget.eps, self.steps // STAGES):
                break
            e = ascent.live
            grew = e.reached > e.before
            e.core = torch.where(grew, e.share, e.core)
            e.rise = torch.where(grew, e.rise, e.rise / 2)
