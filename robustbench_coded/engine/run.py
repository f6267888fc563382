"""Runs units with the engine that the options name: in this process, or by a pool of workers."""

from collections.abc import Callable, Generator, Sequence
from typing import Self

from robustbench_coded.engine.dispatch import UnitTimeLimits, dispatch
from robustbench_coded.engine.worker import attempt
from robustbench_coded.engine.worker_pool import ProcessPool, WorkerPool
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.device import devices, worker_count
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.threads import torch_threads
from robustbench_coded.user_code import TimeLimitExceeded, time_limit


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


class Engine:
    """Runs units. Its workers start with the first units and are kept for later calls.

    A context manager: the workers end with it.

    Args:
        context: of this process; its setup is what workers get.
    """

    def __init__(self, context: WorkerContext):
        self._context = context
        self._pool: WorkerPool | None = None
        self._workers = 0
        self._idle: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.close()

    def run(
        self, units: Sequence[Unit], limit: Callable[[Unit], float]
    ) -> Generator[UnitResult | UnitFailure, None, None]:
        """Yields one outcome for each unit. With several workers only their order can differ.

        Args:
            limit: seconds that a unit may take.

        Raises:
            InputError: the Ray cluster does not answer, or has no room for a worker.
            EngineError: workers can't be started.
        """
        if not units:
            return
        config = self._context.setup.config
        time_limits = UnitTimeLimits(limit)
        if (
            config.engine != "ray"
            and config.workers is None
            and worker_count(config, self._context.device) == 1
        ):
            yield from run_in_process(self._context, units, time_limits)
            return
        if self._pool is None:
            self._pool, self._workers = _pool(self._context)
        if self._workers > 1:  # the longest first, so that all workers finish at about the same time
            units = sorted(units, key=lambda unit: -unit.images)
        try:
            yield from dispatch(self._pool, self._idle, units, self._workers, time_limits)
        except BaseException:
            self._pool = None  # it is closed
            raise


def _pool(context: WorkerContext) -> tuple[WorkerPool, int]:
    """A pool without workers, and how many it should have."""
    config = context.setup.config
    workers = worker_count(config, context.device)
    if config.engine != "ray":
        return ProcessPool(context.setup, devices(context.device)), workers
    from robustbench_coded.engine.ray_actors import RayActors

    actors = RayActors(context, config.address, workers)
    as_many_as_fit = config.workers is None and config.address is not None
    return actors, actors.room if as_many_as_fit else workers
