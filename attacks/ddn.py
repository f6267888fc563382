"""DDN (arXiv 1811.09600): direction and norm of an l2 perturbation, each by a rule of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.losses import cross_entropy
from attacks.nearest import Nearest, unit_length
from attacks.perturbation_budget import PerturbationBudget

# Of the paper: the first norm, its relative change in each step, and the length of a step, first and last.
FIRST_NORM, CHANGE = 1.0, 0.05
STEP, LAST_STEP = 1.0, 0.01


@dataclass(frozen=True)
class Ddn:
    """Steps along the gradient of cross-entropy, scaled to a norm that shrinks while the answer is wrong.

    It minimises the l2 norm; under linf it is what projection leaves of that.

    Attributes:
        steps: moves; as many gradients, and one value for the last point.
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
        """See ``attacks.attack.Attack``; from x, or from ``start``."""
        ball = budget.around(x)
        nearest = Nearest(x, ball)
        adv = x if start is None else start
        norm = torch.full_like(nearest.distance, FIRST_NORM)
        for step in range(self.steps):
            if estimator.exhausted:
                break
            answer = estimator.gradient(adv, y, cross_entropy)
            assert answer.grad is not None
            wrong = nearest.see(adv, answer.logits, y)
            norm = norm * torch.where(wrong, 1 - CHANGE, 1 + CHANGE)
            size = LAST_STEP + (STEP - LAST_STEP) * (1 + cos(pi * step / self.steps)) / 2
            u = nearest.away(adv) + size * unit_length(answer.grad * ball.unit)
            adv = nearest.at(unit_length(u) * norm[..., None, None, None])
        if not estimator.exhausted:
            nearest.see(adv, estimator.value(adv, y, cross_entropy).logits, y)
        return nearest.result()
