"""Gradient ascent in parts of the ball, for defences that notice how a usual attack moved their input.

Gradient attacks move every value as far as it may go, and a defence can notice that: by how many values
moved, where, which way, or how far. It then answers by a model whose slope leads nowhere. Each part lies in
the ball of eps: where one of them finds more, the other attacks failed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.losses import cross_entropy, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.solver import Problem, Solver, larger, wide

MOMENTUM = 0.75
FAR, NEAR = 0.5, 0.2  # steps of eps: in the first half of a run with momentum, and in the second


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


class _Examples(SimpleNamespace):
    """The state of each example: ``[G, K, ...]`` tensors, indexed together when examples stop.

    All have ``slot`` (the example's place in its batch), ``x``, ``y``, ``begun`` (where its search begins),
    ``at`` (the queried point), ``best`` and ``reached`` (the best point so far and its loss); once asked,
    ``grad`` at ``at``, and in a part ``velocity``.
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

    def _ask(self) -> bool:
        """Queries ``live.at``. False once no example is live."""
        e = self.live
        estimate = self.estimator.gradient(e.at, e.y, self.loss)
        assert estimate.grad is not None
        e.grad, better = estimate.grad, larger(self.estimator, estimate.loss, e.reached)
        e.reached = torch.where(better, estimate.loss, e.reached)
        e.best = torch.where(wide(better), e.at, e.best)
        if self.early_stop:
            right = estimate.logits[0].argmax(-1) == e.y[0]
            if not bool(right.all()):
                self._best = self._best.index_copy(1, e.slot[0], e.best)
                self.live = e.select(right)
        return bool(self.live.slot.numel())

    def within(self, part: Part, budget: PerturbationBudget, steps: int) -> bool:
        """PGD with momentum in a part of the budget's ball; False once the search is over.

        Args:
            steps: gradients.
        """
        budget = replace(budget, eps=part.share * budget.eps)
        e, ball = self.live, budget.around(self.live.x)
        e.at = part.confine(ball.project_(e.begun.clone()), e.x)
        e.velocity = torch.zeros_like(e.x)
        for step in range(steps):
            if not self._ask():
                return False
            if self.live is not e:
                e, ball = self.live, budget.around(self.live.x)
            slope = e.grad.nan_to_num(0, 0, 0)
            length = slope.abs().flatten(2).sum(2)
            e.velocity = MOMENTUM * e.velocity + slope / wide(length.clamp(min=1e-30))
            size = (FAR if 2 * step < steps else NEAR) * budget.eps
            e.at = part.confine(ball.step_(e.at.clone(), e.velocity, size), e.x)
        return True


@Algorithm(
    "Parts", "ascent in parts of the ball", example=60, loss="margin", fewest_steps=24, informative=False
)
@dataclass(frozen=True)
class Parts(Solver):
    """PGD with momentum on the margin, from the clean input, in each part; returns the best point of all.

    A start is confined to each part. The gradients are divided among the parts, at least two for each. No
    random numbers are drawn.

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
        for part in PARTS:
            if not ascent.within(part, problem.budget, self.steps // len(PARTS)):
                break
        return ascent.result()
