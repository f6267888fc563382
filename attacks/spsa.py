"""SPSA (arXiv 1802.05666): gradients estimated from loss differences along random directions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.losses import Loss, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import default_step_size


@dataclass(frozen=True)
class Spsa:
    """PGD on gradients that are estimated from losses; the target need not be differentiable.

    A query is a whole batch, in which every slot has its own random direction: the effect of co-batched
    inputs on an example's loss is noise of mean zero. Both ends of a direction are queried under the same
    draws. Estimates are accumulated with decay ``memory``, where the paper uses Adam. The result is the last
    iterate.

    Attributes:
        steps: queries in all; ``2 * pairs`` of them make one step, and a remainder is not used.
        step_size: in units of eps's space; None for PGD's rule.
        loss: what is maximised.
        pairs: directions per step, each queried forwards and backwards.
        delta: distance of a query from the iterate, in pixel units; queries may leave the ball, not the box.
        memory: decay factor of the accumulated estimates.
    """

    steps: int
    step_size: float | None = None
    loss: Loss = margin_loss
    pairs: int = 16
    delta: float = 0.01
    memory: float = 0.75

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.steps < 2 * self.pairs:
            raise ValueError(f"expected at least {2 * self.pairs} queries for a move, got {self.steps}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``."""
        ball = budget.around(x)
        adv = x.clone() if start is None else ball.project_(start.clone())
        moves = self.steps // (2 * self.pairs)
        size = default_step_size(budget.eps, moves) if self.step_size is None else self.step_size
        grad = torch.zeros_like(x)
        for _ in range(moves):
            estimate = self._estimate(adv, y, estimator, generators)
            if estimate is None:
                break
            grad = self.memory * grad + estimate
            adv = ball.step_(adv, grad, size)
        return adv

    def _estimate(
        self, x: Tensor, y: Tensor, estimator: Estimator, generators: Sequence[torch.Generator]
    ) -> Tensor | None:
        """From as many pairs as the query budget allows; None if it allows none."""
        grad, tried = torch.zeros_like(x), 0
        for _ in range(self.pairs):
            if estimator.exhausted:
                break
            signs = torch.stack([torch.randint(0, 2, x.shape[1:], generator=g) for g in generators])
            trial = self.delta * (2 * signs - 1).to(x)
            ahead, behind = estimator.compare(
                [(x + trial).clamp_(0, 1), (x - trial).clamp_(0, 1)], y, self.loss
            )
            # The signs are their own inverses.
            grad += (ahead.loss - behind.loss)[:, :, None, None, None] * trial
            tried += 1
        return grad / (2 * tried * self.delta**2) if tried else None
