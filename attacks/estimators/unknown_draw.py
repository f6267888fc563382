"""Attackers who do not know the scored draw: they use fresh draws, or one surrogate draw."""

from collections.abc import Sequence

from attacks.estimators.averaging import AveragingEstimator, DrawSet
from attacks.objective import Objective
from attacks.oracle import Oracle


class FreshDraws(AveragingEstimator):
    """Every query uses draws that were never used before (EOT, arXiv 1707.07397).

    Args:
        oracle: the target; if it is not randomised, one answer replaces ``draws``.
        draws: how many a query averages over: 1 is plain PGD on a randomised model, M is EOT-M.
        max_images, objective: as in ``AveragingEstimator``.
    """

    def __init__(
        self, oracle: Oracle, *, draws: int = 1, max_images: int = 512, objective: Objective | None = None
    ):
        super().__init__(oracle, max_images=max_images, objective=objective)
        if draws < 1:
            raise ValueError(f"expected draws >= 1, got {draws}")
        self.draws = draws if oracle.randomised else 1
        self._used = 0

    def draw_sets(self) -> Sequence[DrawSet]:
        if not self.oracle.randomised:
            return [self.oracle.draws(0)]
        first, self._used = self._used, self._used + self.draws
        return [self.oracle.draws(index) for index in range(first, self._used)]


class FixedDraw(AveragingEstimator):
    """Draw 0 of the attacker's stream in every query: a deterministic surrogate."""

    def draw_sets(self) -> Sequence[DrawSet]:
        return [self.oracle.draws(0)]
