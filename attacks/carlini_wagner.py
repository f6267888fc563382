"""Carlini and Wagner's l2 attack (arXiv 1608.04644, section VI): a penalty, its weight found by bisection."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.losses import margin_loss
from attacks.nearest import Nearest
from attacks.perturbation_budget import PerturbationBudget

# Searches for the weight of the penalty, ten times as large until one is found; Adam's step size.
ROUNDS, FIRST_WEIGHT, STEP_SIZE = 9, 0.01, 0.01
INSIDE = 1 - 1e-6  # atanh has no value at the ends of the box


@dataclass(frozen=True)
class CarliniWagner:
    """Minimises ``|u|^2 + weight * (margin, where positive)`` by Adam, over images written as a tanh.

    It minimises the l2 norm; under linf it is what projection leaves of that.

    Attributes:
        steps: gradients in all, shared by 9 weights (by as many as there are steps where these are fewer).
    """

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"expected steps >= 1, got {self.steps}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; every weight's search begins at x, or at ``start``."""
        nearest = Nearest(x, budget.around(x))
        weight = torch.full_like(nearest.distance, FIRST_WEIGHT)
        low, high = torch.zeros_like(weight), torch.full_like(weight, inf)
        rounds = min(ROUNDS, self.steps)
        for turn in range(rounds):
            steps = self.steps // rounds + (turn < self.steps % rounds)
            ever_wrong = self._search(x if start is None else start, y, weight, steps, nearest, estimator)
            high = torch.where(ever_wrong, torch.minimum(high, weight), high)
            low = torch.where(ever_wrong, low, torch.maximum(low, weight))
            weight = torch.where(high.isinf(), 10 * weight, (low + high) / 2)
        return nearest.result()

    def _search(
        self, begun: Tensor, y: Tensor, weight: Tensor, steps: int, nearest: Nearest, estimator: Estimator
    ) -> Tensor:
        """One weight ``[G, K]``; whether a wrong answer was met."""
        free = torch.atanh((2 * begun - 1) * INSIDE)
        free = torch.nn.Parameter(free)
        adam = torch.optim.Adam([free], lr=STEP_SIZE)
        ever_wrong = torch.zeros_like(y, dtype=torch.bool)
        for _ in range(steps):
            if estimator.exhausted:
                break
            tanh = free.detach().tanh()
            image = torch.where(nearest.movable > 0, (tanh + 1) / 2, nearest.x0)
            answer = estimator.gradient(image, y, margin_loss)
            assert answer.grad is not None
            ever_wrong |= nearest.see(image, answer.logits, y)
            # The margin counts while the answer is right; beyond the boundary only the distance does.
            pull = torch.where(answer.loss <= 0, weight, 0)[..., None, None, None] * answer.grad
            push = 2 * nearest.away(image) / nearest.ball.unit
            free.grad = (push - pull) * (1 - tanh.square()) / 2
            adam.step()
        return ever_wrong
