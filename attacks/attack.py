"""The interface of every attack."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.perturbation_budget import PerturbationBudget


class Attack(Protocol):
    """Searches for the perturbation that maximises a loss."""

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """Perturbs G batches of K inputs.

        Args:
            x: clean inputs ``[G, K, C, H, W]``, floating point, in [0, 1]; not modified.
            y: true classes ``[G, K]``, int64.
            estimator: answers the attack's queries and counts them.
            budget: where the result must lie.
            generators: a CPU generator a batch, for random starts and directions.
            start: another attack's result to continue from, like x, projected first; None for the attack's
                own start.

        Returns:
            Perturbed inputs like x, inside the budget and the box.
        """
