"""Greedy model-space attack (arXiv 2110.14735, sec. 4.2); its models are draws of a randomised target."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.attack import Attack
from attacks.estimators import Estimator
from attacks.estimators.collected import CollectedDraws
from attacks.perturbation_budget import PerturbationBudget


@dataclass(frozen=True)
class Gmsa:
    """Each round adds one draw of the target to a set and attacks the whole set.

    A round continues from the result of the last one, with the inner attack's full number of steps. R rounds
    cost R (R + 1) / 2 times the inner attack.

    Attributes:
        inner: the attack of each round.
        rounds: R.
    """

    inner: Attack
    rounds: int

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"expected rounds >= 1, got {self.rounds}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; the estimator is a ``CollectedDraws`` one.

        Raises:
            ValueError: the estimator does not collect draws.
        """
        if not isinstance(estimator, CollectedDraws):
            raise ValueError(f"expected a CollectedDraws estimator, got {type(estimator).__name__}")
        adv = start
        for _ in range(self.rounds):
            if estimator.exhausted and adv is not None:
                break
            estimator.collect()
            adv = self.inner.perturb(x, y, estimator, budget, generators, start=adv)
        assert adv is not None
        return adv
