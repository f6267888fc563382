"""Ascent that may stop on an example at its first wrong answer."""

from collections.abc import Callable

from torch import Tensor

from attacks.estimators import Estimator
from attacks.perturbation_budget import PerturbationBudget


def ascended(
    ascent: Callable[[Tensor, Tensor, Tensor, Estimator, PerturbationBudget], Tensor],
    x: Tensor,
    y: Tensor,
    begun: Tensor,
    estimator: Estimator,
    budget: PerturbationBudget,
    *,
    early_stop: bool,
) -> Tensor:
    """What ``ascent(x, y, begun, estimator, budget)`` makes of ``[G, K, C, H, W]``, in that shape.

    With ``early_stop`` examples are independent, so all batches are handed over as one.

    Raises:
        ValueError: ``early_stop`` with a budget that differs between slots.
    """
    if not early_stop:
        return ascent(x, y, begun, estimator, budget)
    budget.check_one_eps()
    x_all, y_all, begun_all = (of.flatten(0, 1)[None] for of in (x, y, begun))
    return ascent(x_all, y_all, begun_all, estimator, budget).view_as(x)
