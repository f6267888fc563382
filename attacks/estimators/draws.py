"""Attackers by the draws that they average over.

Fresh draws (EOT, arXiv 1707.07397), one fixed draw, the scored draw, and the set that a greedy model-space
attack has collected (arXiv 2110.14735).
"""

from collections.abc import Sequence
from typing import Literal, Unpack

import torch
from torch import Tensor

from attacks.estimators.averaging import AveragingEstimator, DrawSet, Estimate, Shared
from attacks.losses import Loss
from attacks.oracle import Oracle


class FreshDraws(AveragingEstimator):
    """Every query uses draws that were never used before (EOT, arXiv 1707.07397).

    Args:
        oracle: the target; if it is not randomised, one answer replaces ``draws``.
        draws: how many a query averages over: 1 is plain PGD on a randomised model, M is EOT-M.
    """

    def __init__(self, oracle: Oracle, *, draws: int = 1, **shared: Unpack[Shared]):
        super().__init__(oracle, **shared)
        if draws < 1:
            raise ValueError(f"expected draws >= 1, got {draws}")
        self.draws = draws if oracle.randomised else 1
        self._used = 0

    def draw_sets(self) -> Sequence[DrawSet]:
        if not self.oracle.randomised:
            return [self.oracle.draws(0)]
        first, self._used = self._used, self._used + self.draws
        return [self.oracle.draws(index) for index in range(first, self._used)]

    def held(self, count: int) -> Sequence[DrawSet]:
        first, self._used = self._used, self._used + count
        return [
            self.oracle.draws(index)
            for index in range(first, self._used if self.oracle.randomised else first + 1)
        ]


class FixedDraw(AveragingEstimator):
    """Draw 0 of the attacker's stream in every query: a deterministic surrogate."""

    def draw_sets(self) -> Sequence[DrawSet]:
        return [self.oracle.draws(0)]


class KnownDraw(AveragingEstimator):
    """Every query uses the given draws, one for each of the G batches."""

    def __init__(self, oracle: Oracle, draws: DrawSet, **shared: Unpack[Shared]):
        super().__init__(oracle, **shared)
        self._draws = draws

    def draw_sets(self) -> Sequence[DrawSet]:
        return [self._draws]


Combine = Literal["avg", "min"]


class CollectedDraws(AveragingEstimator):
    """A growing set of draws, attacked together; ``attacks.composite`` says when it grows.

    Args:
        oracle: the target.
        combine: "avg" maximises the mean of an example's losses over the set, "min" the smallest of them.
            If the set does not fit into one forward, "min" runs twice: first for the values, to find the draw
            with the smallest loss of each example.
    """

    def __init__(self, oracle: Oracle, *, combine: Combine, **shared: Unpack[Shared]):
        super().__init__(oracle, **shared)
        if combine not in ("avg", "min"):
            raise ValueError(f"expected combine avg or min, got {combine}")
        self.combine = combine
        self._sets: list[DrawSet] = []

    def collect(self) -> None:
        """Adds the target's next draw to the set."""
        if self.oracle.randomised or not self._sets:
            self._sets.append(self.oracle.draws(len(self._sets)))
            # The cost of the next query grows with the set.
            self._cost_per_input *= len(self._sets) / max(1, len(self._sets) - 1)

    def draw_sets(self) -> Sequence[DrawSet]:
        if not self._sets:
            raise ValueError("expected at least one collected draw, got none")
        return self._sets

    def gradient(self, x: Tensor, y: Tensor, loss: Loss) -> Estimate:
        if self.combine == "avg" or len(self.draw_sets()) == 1:
            return super().gradient(x, y, loss)
        with self._query(y):
            return self._smallest(x, y, loss, differentiate=True)

    def compare(self, xs: Sequence[Tensor], y: Tensor, loss: Loss) -> list[Estimate]:
        if self.combine == "avg" or len(self.draw_sets()) == 1:
            return super().compare(xs, y, loss)
        with self._query(y):
            return [self._smallest(x, y, loss, differentiate=False) for x in xs]

    def _smallest(self, x: Tensor, y: Tensor, loss: Loss, *, differentiate: bool) -> Estimate:
        parts = list(self._parts(x, self.draw_sets()))
        if len(parts) == 1:
            answer = self._answer(x, y, loss, parts[0], _smallest_of if differentiate else None)
            grad = None if answer.grad is None else answer.grad.sum(0)
            return Estimate(answer.losses.amin(0), grad, answer.logits.mean(0))
        answers = [self._answer(x, y, loss, part, None) for part in parts]
        losses = torch.cat([answer.losses for answer in answers])
        logits = torch.cat([answer.logits for answer in answers]).mean(0)
        if not differentiate:
            return Estimate(losses.amin(0), None, logits)
        counts = torch.zeros_like(losses).scatter_(0, losses.argmin(0, keepdim=True), 1)
        grad = torch.zeros_like(x)
        for part, share in zip(parts, counts.split([len(part) for part in parts])):
            if bool(share.any()):
                found = self._answer(x, y, loss, part, share.mul).grad
                assert found is not None
                grad += found if found.ndim == x.ndim else found.sum(0)
        return Estimate(losses.amin(0), grad, logits)


def _smallest_of(losses: Tensor) -> Tensor:
    return losses.amin(0)
