"""An attack from several random starts; the best result is chosen on the attacker's own draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.attack import Attack
from attacks.better import better_of
from attacks.estimators import Estimator
from attacks.losses import Loss, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Pgd


@dataclass(frozen=True)
class Restarts:
    """Runs ``attack`` so many times and keeps the larger margin loss of each example (``attacks.better``).

    Attributes:
        attack: what is run, from a start that is handed to it.
        restarts: number of runs.
        early_stop: later runs leave out examples that are answered wrongly. Only for targets that answer
            inputs one by one and without randomness.
    """

    attack: Attack
    restarts: int
    early_stop: bool = False

    def __post_init__(self) -> None:
        if self.restarts < 1:
            raise ValueError(f"expected restarts >= 1, got {self.restarts}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; ``start`` is the first run's."""
        ball = budget.around(x)
        begun = ball.uniform(generators) if start is None else start
        best = self.attack.perturb(x, y, estimator, budget, generators, begun)
        for _ in range(1, self.restarts):
            if estimator.exhausted:
                break
            begun = ball.uniform(generators)
            if not self.early_stop:
                found = self.attack.perturb(x, y, estimator, budget, generators, begun)
                best = better_of(estimator, y, best, found)
                continue
            left = estimator.value(best, y, margin_loss).logits.argmax(-1) == y
            if not bool(left.any()):
                break
            # The examples are independent, so those that are left can form one batch.
            some, labels = x[left][None], y[left][None]
            found = self.attack.perturb(some, labels, estimator, budget, generators[:1], begun[left][None])
            best = best.clone()
            best[left] = better_of(estimator, labels, best[left][None], found)[0]
        return best


def restarted_pgd(
    steps: int,
    step_size: float | None,
    loss: Loss,
    momentum: float,
    restarts: int,
    early_stop: bool,
) -> Attack:
    """PGD from one random start, or the best of several."""
    pgd = Pgd(steps, step_size, loss, early_stop=early_stop, momentum=momentum)
    return Restarts(pgd, restarts, early_stop=early_stop) if restarts > 1 else pgd
