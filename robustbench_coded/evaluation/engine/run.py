"""Runs units with the engine that the options name, in this process or by a pool of workers; one that hangs
is ended.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from robustbench_coded.evaluation.engine.worker import attempt
from robustbench_coded.evaluation.engine.worker_pool import (
    Died,
    EngineError,
    Event,
    Finished,
    ProcessPool,
    Ready,
    WorkerPool,
)
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.device import devices
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.extensions import load
from robustbench_coded.threads import subnormals_flushed, torch_threads
from robustbench_coded.user_code import TimeIsUp, TimeLimitExceeded, deadline, time_limit

# Units are planned to take seconds to minutes on an accelerator, which may be hours of a large network on one
# core: what takes longer hangs.
UNIT_SECONDS = 6 * 3600.0


def _overdue(unit: Unit) -> UnitFailure:
    return UnitFailure(unit, f"took longer than {UNIT_SECONDS:g} s, as what hangs does", 1)


# A fresh process can help if the last one was killed, hung or lost its device. One retry.
ATTEMPTS = 2
SPARE_STARTS = 3


def dispatch(
    pool: WorkerPool,
    idle: set[int],
    units: Sequence[Unit],
    workers: int,
    clock: Callable[[], float] = time.monotonic,
    deadline: float = math.inf,
) -> Generator[UnitResult | UnitFailure, None, None]:
    """Yields one outcome for each unit, in the order in which they arrive.

    Units start in the order given. A worker that dies or hangs is replaced, and the
    unit is tried once more by another one. Idle workers get units only while the caller asks for outcomes.

    Args:
        idle: workers of the pool that wait for units; at the end, those of this call as well.
            If the call ends early, the pool and its processes end.
        workers: how many may run at once, idle ones included.
        deadline: on ``clock``, when units that still run are dropped.

    Raises:
        EngineError: workers die before they can take a unit.
        TimeIsUp: units are left at the deadline.
    """
    try:
        yield from _Dispatch(pool, idle, deque(units), workers, clock, deadline).run()
    except BaseException:
        pool.close()
        idle.clear()
        raise


@dataclass
class _Dispatch:
    """Attributes:
    deadlines: of the unit that a worker was given last.
    """

    pool: WorkerPool
    idle: set[int]
    waiting: deque[Unit]
    workers: int
    clock: Callable[[], float]
    deadline: float
    starting: set[int] = field(default_factory=set)
    busy: dict[int, Unit] = field(default_factory=dict)
    deadlines: dict[int, float] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    outcomes: deque[UnitResult | UnitFailure] = field(default_factory=deque)
    failed_starts: int = 0

    def run(self) -> Generator[UnitResult | UnitFailure, None, None]:
        while self.waiting or self.busy or self.outcomes:
            self._start_workers()
            for event in self.pool.wait(0 if self.outcomes else self._time_left()):
                self._handle(event)
            self._stop_overdue()
            if self.outcomes:
                yield self.outcomes.popleft()
            elif self.clock() >= self.deadline:
                raise TimeIsUp
        for worker in self.starting:
            self.pool.stop(worker)

    def _start_workers(self) -> None:
        while len(self.starting) + len(self.busy) < min(self.workers, len(self.waiting) + len(self.busy)):
            if self.idle:
                self._assign(self.idle.pop())
            else:
                self.starting.add(self.pool.start())

    def _handle(self, event: Event) -> None:
        worker = event.worker
        match event:
            case Ready():
                self.starting.remove(worker)
                self.failed_starts = 0
                self._assign(worker)
            case Finished(outcome=UnitFailure(process_unusable=True) as failure):
                self.pool.stop(worker)
                self._retry(replace(failure, unit=self.busy.pop(worker)))
            case Finished(outcome=outcome):
                del self.busy[worker]
                self.outcomes.append(self._with_all_attempts(outcome))
                self._assign(worker)
            case Died(reason=reason) if worker in self.starting:
                self.starting.remove(worker)
                self.failed_starts += 1
                if self.failed_starts >= self.workers + SPARE_STARTS:
                    raise EngineError(f"workers end before they have begun: {reason}")
            case Died() if worker in self.idle:
                self.idle.remove(worker)
            case Died(reason=reason):
                self._retry(UnitFailure(self.busy.pop(worker), f"its worker died: {reason}", 1))

    def _assign(self, worker: int) -> None:
        """Assigns the next unit to a worker, which is idle if there is none."""
        if not self.waiting:
            self.idle.add(worker)
            return
        unit = self.waiting.popleft()
        self.pool.assign(worker, unit)
        self.busy[worker] = unit
        self.deadlines[worker] = self.clock() + UNIT_SECONDS

    def _retry(self, failure: UnitFailure) -> None:
        unit = failure.unit
        self.attempts[unit.id] += failure.attempts
        if self.attempts[unit.id] < ATTEMPTS:
            self.waiting.appendleft(unit)
        else:
            self.outcomes.append(replace(failure, attempts=self.attempts[unit.id]))

    def _with_all_attempts(self, outcome: UnitResult | UnitFailure) -> UnitResult | UnitFailure:
        if isinstance(outcome, UnitFailure):
            return replace(outcome, attempts=outcome.attempts + self.attempts[outcome.unit.id])
        return outcome

    def _time_left(self) -> float | None:
        """Seconds until the first unit is overdue or the run's time is up; None for no such moment."""
        first = min((self.deadline, *(self.deadlines[worker] for worker in self.busy)))
        return max(0.0, first - self.clock()) if math.isfinite(first) else None

    def _stop_overdue(self) -> None:
        for worker in [worker for worker in self.busy if self.deadlines[worker] <= self.clock()]:
            self.pool.stop(worker)
            self._retry(_overdue(self.busy.pop(worker)))


def run_in_process(
    context: WorkerContext, units: Sequence[Unit]
) -> Generator[UnitResult | UnitFailure, None, None]:
    """Runs units one after the other.

    A unit that hangs is not retried: the same process would not do better.

    Raises:
        TimeIsUp: units are left at the run's deadline.
    """
    with torch_threads(context.setup.threads), subnormals_flushed():
        for unit in units:
            try:
                with time_limit(UNIT_SECONDS):
                    outcome = attempt(context, unit)
            except TimeLimitExceeded:
                outcome = _overdue(unit)
            yield outcome


@dataclass
class Engine(AbstractContextManager["Engine"]):
    """Runs units. Its workers start with the first units and serve later calls.

    A context manager: the workers end with it.

    Attributes:
        context: of this process; its setup is what workers get.
    """

    context: WorkerContext
    _pool: WorkerPool | None = None
    _workers: int = 0
    _idle: set[int] = field(default_factory=set)

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.close()

    def run(self, units: Sequence[Unit]) -> Generator[UnitResult | UnitFailure, None, None]:
        """Yields one outcome for each unit. With several workers only their order can differ.

        Raises:
            TimeIsUp: units are left at the run's deadline; those that still run are dropped.
            InputError: the Ray cluster does not answer, or has no room for a worker.
            EngineError: workers can't be started.
        """
        if not units:
            return
        setup, options = self.context.setup, self.context.setup.options
        if options.engine != "ray" and options.workers is None and setup.workers == 1:
            yield from run_in_process(self.context, units)
            return
        if self._pool is None:
            self._pool, self._workers = _pool(self.context)
        if self._workers > 1:  # the longest first, so that all workers finish at about the same time
            units = sorted(units, key=lambda unit: -unit.images)
        try:
            yield from dispatch(self._pool, self._idle, units, self._workers, deadline=deadline())
        except BaseException:
            self._pool = None  # it is closed
            raise


def _pool(context: WorkerContext) -> tuple[WorkerPool, int]:
    """A pool without workers, and how many it should have."""
    options, workers = context.setup.options, context.setup.workers
    if options.engine == "local":
        return ProcessPool(context.setup, devices(context.device)), workers
    actors = load("engines", options.engine)(context, workers)
    return actors, actors.room if options.workers is None and actors.joined else workers
