"""Ascent in parts of the ball: values that only rise, or only fall, and halves of the image, in turn.

Attacks with gradients move all values both ways, and a defence can notice that: by where values moved, or
which way. It then answers by a model whose slope leads nowhere. An input that was moved within a part only
may pass. A part holds no more than the ball: where this attack finds more, the others failed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.better import larger
from attacks.estimators import Estimator
from attacks.losses import cross_entropy, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.wide import wide

MOMENTUM = 0.75
FAR, NEAR = 0.5, 0.2  # steps of eps: in the first half of a part's steps, and in the second


def _half(rows: bool, first: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Keeps what moved in one half of the rows or columns."""

    def confine(at: Tensor, x: Tensor) -> Tensor:
        size = x.shape[-2 if rows else -1]
        inside = (torch.arange(size, device=x.device) < (size + 1) // 2) == first
        return torch.where(inside[:, None] if rows else inside, at, x)

    return confine


PARTS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    torch.maximum,
    torch.minimum,
    *(_half(rows, first) for rows in (False, True) for first in (True, False)),
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
        if not self.early_stop:
            return self._ascent(x, y, begun, estimator, budget)
        budget.check_one_eps()
        x_all, y_all, begun = (tensor.flatten(0, 1)[None] for tensor in (x, y, begun))
        return self._ascent(x_all, y_all, begun, estimator, budget).view_as(x)

    def _ascent(
        self, x: Tensor, y: Tensor, begun: Tensor, estimator: Estimator, budget: PerturbationBudget
    ) -> Tensor:
        loss = margin_loss if estimator.per_example else cross_entropy
        result, left = begun.clone(), torch.arange(x.shape[1], device=x.device)  # positions of the rows below
        best, reached = begun, torch.full_like(y, -torch.inf, dtype=x.dtype)
        turns = self.steps // len(PARTS)
        ball = budget.around(x)
        for confine in PARTS:
            at, velocity = confine(begun, x), torch.zeros_like(x)
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
                        left, x, y, begun, best = (
                            left[right],
                            x[:, right],
                            y[:, right],
                            begun[:, right],
                            best[:, right],
                        )
                        at, velocity, slope, reached = (
                            at[:, right],
                            velocity[:, right],
                            slope[:, right],
                            reached[:, right],
                        )
                        ball = budget.around(x)
                slope = slope.nan_to_num(0, 0, 0)
                length = slope.abs().flatten(2).sum(2)
                velocity = MOMENTUM * velocity + slope / wide(length.clamp(min=1e-30))
                size = (FAR if 2 * turn < turns else NEAR) * budget.eps
                at = confine(ball.step_(at.clone(), velocity, size), x)
        return result.index_copy(1, left, best)
