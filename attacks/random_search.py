"""Random search (arXiv 1902.06705): independent random points of the ball.

If it breaks an example that gradient attacks do not break, the gradients may be masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.perturbation_budget import PerturbationBudget
from attacks.search import search


@dataclass(frozen=True)
class RandomSearch:
    """Alternates corners of the ball (random signs) and uniform points inside; returns the best one.

    Attributes:
        steps: queries; the estimator decides what each costs.
        early_stop: as in ``attacks.search.search``.
    """

    steps: int
    early_stop: bool = False

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
        """See ``attacks.attack.Attack``; ``start`` replaces the first point."""
        ball = budget.around(x)
        corner = True

        def point(query: int, best: Tensor) -> Tensor:
            nonlocal corner
            corner = not corner
            return ball.random_sign(generators) if corner else ball.uniform(generators)

        first = ball.random_sign(generators) if start is None else ball.project_(start.clone())
        return search(first, point, self.steps, y, estimator, early_stop=self.early_stop)
