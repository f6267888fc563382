"""How long units may take, and when units like those that hung are not worth the wait."""

from collections import Counter
from collections.abc import Callable

from robustbench_coded.evaluation.planning.plan import Subject, Unit

LEAST_SECONDS = 3600.0
TIMES_FORECAST = 20.0
# The first hanging unit of a subject is tried twice, another one once: then the subject is known to hang.
MOST_HANGS = 3


class Patience:
    """Time limits of units, and a memory of the subjects that exceeded them.

    Args:
        limit: seconds that a unit may take.
    """

    def __init__(self, limit: Callable[[Unit], float]):
        self._limit = limit
        self._hangs: Counter[Subject] = Counter()

    def seconds(self, unit: Unit) -> float:
        """How long this unit may take."""
        return self._limit(unit)

    def exceeded(self, unit: Unit) -> str:
        """Takes note of a unit that took too long; returns a line that says so."""
        self._hangs[unit.row.subject] += 1
        return f"took longer than {self.seconds(unit):g} s; --unit-timeout SECONDS gives more"

    def lost_with(self, unit: Unit) -> str | None:
        """Why there is no use in trying a unit, if there is none."""
        if self._hangs[unit.row.subject] < MOST_HANGS:
            return None
        return f"not tried, since {MOST_HANGS} tries of this defence took longer than their time limit"


def limit_for(timeout: float | None, forecast: Callable[[Unit], float]) -> Callable[[Unit], float]:
    """``--unit-timeout`` for every unit; without it an hour, or 20 times the forecast where that is more.

    A unit is planned to take seconds to minutes, so this only ends what hangs.

    Args:
        timeout: seconds; infinite for no limit.
        forecast: seconds that a unit will take.
    """
    if timeout is not None:
        return lambda unit: timeout
    return lambda unit: max(LEAST_SECONDS, TIMES_FORECAST * forecast(unit))
