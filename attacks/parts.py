"""Ascent in parts of the ball: up alone, down alone, half as far, and in halves of the image, in turn.

Attacks with gradients move all values both ways as far as they may, and a defence can notice that: by where
values moved, which way, or how far. It then answers by a model whose slope leads nowhere. An input that was
moved within a part only may pass. A part holds no more than the ball: where this attack finds more, the
others failed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.better import larger
from attacks.early_stop import ascended
from attacks.estimators import Estimator
from attacks.losses import cross_entropy, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.wide import wide

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
