"""FGSM (arXiv 1412.6572): one step of size eps from the clean input."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.losses import Loss, cross_entropy
from attacks.perturbation_budget import PerturbationBudget


@dataclass(frozen=True)
class Fgsm:
    """Attributes:
    step_size: in units of eps's space; None for eps itself.
    loss: what the step increases.
    """

    step_size: float | None = None
    loss: Loss = cross_entropy

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; draws no random numbers."""
        ball = budget.around(x)
        adv = x.clone() if start is None else ball.project_(start.clone())
        grad = estimator.gradient(adv, y, self.loss).grad
        assert grad is not None
        return ball.step_(adv, grad, budget.eps if self.step_size is None else self.step_size)
