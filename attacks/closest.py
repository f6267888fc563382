"""An attack on all examples, then more of it on those whose answers came closest to being wrong.

What an attack misses on robust networks is nearly always among the few examples of the smallest margins:
there another start or a longer search pays, elsewhere it finds nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from attacks.apgd_mt import ApgdMultiTargeted
from attacks.attack import Attack
from attacks.estimators import Estimator
from attacks.losses import margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.square import Square
from attacks.wide import wide

SHARE = 16  # of a batch: one in so many of its examples is attacked again
ALL_TARGETS = 8  # of the later runs; with the likeliest wrong class, which the margin leads to, 9


@dataclass(frozen=True)
class Closest:
    """Runs ``first`` on all examples, and each of ``then`` on those left whose margins are smallest.

    Attributes:
        first, then: attacks that stop early. Only for targets that answer inputs one by one and without
            randomness: elsewhere a margin depends on a draw or on other inputs.
    """

    first: Attack
    then: Sequence[Attack]

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; ``start`` is the first attack's. Later runs choose their own.

        Raises:
            ValueError: the budget differs between slots.
        """
        budget.check_one_eps()
        best = self.first.perturb(x, y, estimator, budget, generators, start)
        if estimator.exhausted:
            return best
        reached = estimator.value(best, y, margin_loss).loss
        count = ceil(x.shape[1] / SHARE)
        for attack in self.then:
            if estimator.exhausted or bool((reached > 0).all()):
                break
            # As many of every batch: which of a batch does not depend on the others of its group.
            rows = torch.where(reached > 0, -torch.inf, reached).topk(count, dim=1).indices
            some, labels = _taken(x, rows), _taken(y, rows)
            found = attack.perturb(some, labels, estimator, budget, generators)
            if estimator.exhausted:
                break
            score = estimator.value(found, labels, margin_loss).loss
            before = _taken(reached, rows)
            better = score > before
            best = best.clone()
            batch = torch.arange(len(x), device=x.device)[:, None]
            best[batch, rows] = torch.where(wide(better), found, _taken(best, rows))
            reached[batch, rows] = torch.maximum(score, before)
        return best


def _taken(of: Tensor, rows: Tensor) -> Tensor:
    """``of`` ``[G, K, ...]`` at ``rows`` ``[G, k]``."""
    return of[torch.arange(len(of), device=of.device)[:, None], rows]


def apgd_mt(steps: int, targets: int, closest: int, early_stop: bool) -> Attack:
    """Multi-targeted Auto-PGD; then ``closest`` runs from other starts, towards more classes."""
    first = ApgdMultiTargeted(steps, targets, early_stop=early_stop)
    if not closest or not early_stop:
        return first
    return Closest(first, (ApgdMultiTargeted(steps, max(targets, ALL_TARGETS), early_stop=True),) * closest)


def square(steps: int, closest: int, early_stop: bool) -> Attack:
    """The Square attack; then one of ``closest`` times as many queries."""
    first = Square(steps, early_stop=early_stop)
    if not closest or not early_stop:
        return first
    return Closest(first, (Square(closest * steps, early_stop=True),))
