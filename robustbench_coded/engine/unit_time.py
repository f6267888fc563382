"""Time limits of units, and when units of a defence that keeps exceeding them are skipped."""

from collections import Counter
from collections.abc import Callable

from robustbench_coded.evaluation.planning.cases import Subject, Unit

LEAST_SECONDS = 3600.0
TIMES_FORECAST = 20.0
# A defence may say that it costs anything; poll() waits for at most 2^31 milliseconds, 24 days.
MOST_SECONDS = 20 * 86400.0
# The first unit of a subject that hangs is tried twice and another one once; then its units are skipped.
MAX_TIMEOUTS = 3


class UnitTimeLimits:
    """The time limit of each unit, and a count of timeouts per subject.

    Args:
        limit: seconds that a unit may take.
    """

    def __init__(self, limit: Callable[[Unit], float]):
        self._limit = limit
        self._timeouts: Counter[Subject] = Counter()

    def seconds(self, unit: Unit) -> float:
        """The time limit of this unit."""
        return self._limit(unit)

    def record_timeout(self, unit: Unit) -> str:
        """Counts a timeout; returns its error message."""
        self._timeouts[unit.row.subject] += 1
        return f"took longer than {self.seconds(unit):g} s; --unit-timeout SECONDS gives more"

    def reason_to_skip(self, unit: Unit) -> str | None:
        """Why a unit is not worth trying; None if it is."""
        if self._timeouts[unit.row.subject] < MAX_TIMEOUTS:
            return None
        return f"not tried, since {MAX_TIMEOUTS} tries of this defence took longer than their time limit"


def limit_for(timeout: float | None, forecast: Callable[[Unit], float]) -> Callable[[Unit], float]:
    """``--unit-timeout`` for every unit; without it an hour, or 20 times the forecast where that is more.

    Units are planned to take seconds to minutes, so the default only ends units that hang.

    Args:
        timeout: seconds; infinite for no limit.
        forecast: seconds that a unit will take.
    """
    if timeout is not None:
        return lambda unit: timeout
    return lambda unit: min(max(LEAST_SECONDS, TIMES_FORECAST * forecast(unit)), MOST_SECONDS)
