"""Attackers by the draws that they average over.

Fresh draws (EOT, arXiv 1707.07397), one fixed draw, and the scored draw.
"""

from collections.abc import Sequence
from typing import Unpack

from attacks.estimators.averaging import DrawSet, Estimator, Shared
from attacks.oracle import Oracle


class FreshDraws(Estimator):
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


class FixedDraw(Estimator):
    """Draw 0 of the attacker's stream in every query: a deterministic surrogate."""

    def draw_sets(self) -> Sequence[DrawSet]:
        return [self.oracle.draws(0)]


class KnownDraw(Estimator):
    """Every query uses the given draws, one for each of the G batches."""

    def __init__(self, oracle: Oracle, draws: DrawSet, **shared: Unpack[Shared]):
        super().__init__(oracle, **shared)
        self._draws = draws

    def draw_sets(self) -> Sequence[DrawSet]:
        return [self._draws]
