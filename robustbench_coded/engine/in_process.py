"""The engine that runs units in this process."""

from collections.abc import Generator, Sequence

from robustbench_coded.engine.attempt import attempt
from robustbench_coded.engine.unit_time import UnitTimeLimits
from robustbench_coded.evaluation.execution.results import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.threads import torch_threads
from robustbench_coded.time_limit import TimeLimitExceeded, time_limit


def run_in_process(
    context: WorkerContext, units: Sequence[Unit], time_limits: UnitTimeLimits
) -> Generator[UnitResult | UnitFailure, None, None]:
    """Runs units one after the other.

    A unit that exceeds its time limit is not retried: the same process would not do better.
    """
    with torch_threads(context.setup.threads):
        for unit in units:
            reason = time_limits.reason_to_skip(unit)
            yield UnitFailure(unit, reason, 0) if reason else _within_its_time(context, unit, time_limits)


def _within_its_time(
    context: WorkerContext, unit: Unit, time_limits: UnitTimeLimits
) -> UnitResult | UnitFailure:
    try:
        with time_limit(time_limits.seconds(unit)):
            return attempt(context, unit)
    except TimeLimitExceeded:
        return UnitFailure(unit, time_limits.record_timeout(unit), 1)
