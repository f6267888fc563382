"""An attacker who knows the draw that will be scored."""

from collections.abc import Sequence

from attacks.estimators.averaging import AveragingEstimator, DrawSet
from attacks.objective import Objective
from attacks.oracle import Oracle


class KnownDraw(AveragingEstimator):
    """Every query uses the given draws, one for each of the G batches."""

    def __init__(
        self, oracle: Oracle, draws: DrawSet, *, max_images: int = 512, objective: Objective | None = None
    ):
        super().__init__(oracle, max_images=max_images, objective=objective)
        self._draws = draws

    def draw_sets(self) -> Sequence[DrawSet]:
        return [self._draws]
