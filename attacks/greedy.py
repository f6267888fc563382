"""Greedy ascent: each step moves the few values that promise most as far as they may go, if that helps.

Saliency decides which, as in JSMA (arXiv 1511.07528); they end at corners of the ball, among which arXiv
1905.06635 searches without gradients. Other attacks move every value at once, and a defence can notice that:
by how many values moved, by values that are the same in all clean images, by a mean that shifts. It then
answers by a model whose slope leads nowhere. The path of this attack begins at the clean input and passes
through perturbations of few values, and values that made the answer better are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.better import larger
from attacks.early_stop import ascended
from attacks.estimators import Estimator
from attacks.losses import cross_entropy, margin_loss
from attacks.perturbation_budget import Ball, PerturbationBudget
from attacks.wide import wide


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
