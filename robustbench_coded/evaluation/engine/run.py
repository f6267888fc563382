"""Runs units with the engine that the options name, in this process or by a pool of workers; one that hangs
is ended.
"""

import itertools
import math
import multiprocessing
import pickle
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from robustbench_coded.evaluation.engine.worker import READY, NotReady, attempt, one_line, work
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import Setup, WorkerContext
from robustbench_coded.evaluation.options.device import devices
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.extensions import load
from robustbench_coded.threads import subnormals_flushed, torch_threads
from robustbench_coded.user_code import TimeIsUp, TimeLimitExceeded, deadline, time_limit


class EngineError(Exception):
    """Workers can't be started, whatever the unit. The message is one line."""


@dataclass(frozen=True)
class Ready:
    """A worker has started and can take its first unit."""

    worker: int


@dataclass(frozen=True)
class Finished:
    """A worker has finished its unit and can take another."""

    worker: int
    outcome: UnitResult | UnitFailure


@dataclass(frozen=True)
class Died:
    """A worker has died, and with it the job that it had."""

    worker: int
    reason: str


Event = Ready | Finished | Died


class WorkerPool(Protocol):
    """Workers by number. All methods but ``wait`` return at once."""

    def start(self) -> int:
        """Starts a worker; ``wait`` reports it as Ready, or as Died."""

    def assign(self, worker: int, unit: Unit) -> None:
        """Sends a unit to an idle worker."""

    def wait(self, seconds: float | None) -> list[Event]:
        """Returns events; blocks until there is one, for at most ``seconds``. 0 does not block."""

    def stop(self, worker: int) -> None:
        """Kills a worker, busy or not; no more events come from it."""

    def close(self) -> None:
        """Kills all workers."""


# What the server of worker processes imports before it forks.
WORK = "robustbench_coded.evaluation.engine.worker"
EXIT_SECONDS = 2.0
SERVER_STARTS = 3


@dataclass(frozen=True)
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    device: str


class ProcessPool:
    """Worker processes, forked from a server that has imported everything and computed nothing.

    A worker therefore starts in milliseconds and shares the memory of what was imported. (A fork of this
    process itself would inherit its CUDA context and thread pools, which do not survive a fork.)

    Args:
        setup: sent to every worker.
        devices: devices of the machine; a new worker gets the one with the fewest workers.
    """

    def __init__(self, setup: Setup, devices: Sequence[str]):
        self._setup = setup
        self._devices = tuple(devices)
        self._numbers = itertools.count()
        self._workers: dict[int, _Worker] = {}
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([WORK])

    def start(self) -> int:
        number = next(self._numbers)
        held = Counter(worker.device for worker in self._workers.values())
        device = min(self._devices, key=held.__getitem__)
        self._workers[number] = self._start(device)
        return number

    def assign(self, worker: int, job: Any) -> None:
        with suppress(OSError):  # it has just died; wait() will report it
            self._workers[worker].pipe.send_bytes(pickle.dumps(job))

    def wait(self, seconds: float | None) -> list[Event]:
        numbers: dict[Any, int] = {worker.pipe: number for number, worker in self._workers.items()}
        numbers |= {worker.process.sentinel: number for number, worker in self._workers.items()}
        happened = connection.wait(list(numbers), seconds)
        return [self._event(number) for number in sorted({numbers[source] for source in happened})]

    def stop(self, worker: int) -> None:
        self._end([self._workers.pop(worker)])

    def close(self) -> None:
        workers, self._workers = list(self._workers.values()), {}
        self._end(workers)

    def _start(self, device: str) -> _Worker:
        worker_setup = replace(self._setup, device=device)
        for tries_left in reversed(range(SERVER_STARTS)):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=work, args=(theirs, worker_setup, str(Path.cwd())))
            try:
                with _interrupts_blocked(), _without_main_module():
                    process.start()
                return _Worker(process, ours, device)
            except (EOFError, OSError) as error:  # the server was killed; the next try starts another
                ours.close()
                if not tries_left:
                    raise EngineError(f"worker processes can't be started ({one_line(error)})") from error
            finally:
                theirs.close()  # so that the worker's death closes the pipe
        raise AssertionError("unreachable")

    def _event(self, number: int) -> Event:
        worker = self._workers[number]
        try:
            # What a worker sent before it died counts.
            message = pickle.loads(worker.pipe.recv_bytes()) if worker.pipe.poll() else None
        except (EOFError, OSError):
            message = None
        match message:
            case NotReady(reason):
                self.stop(number)
                return Died(number, reason)
            case None:
                worker.process.join(EXIT_SECONDS)  # its pipe closes before its exit code is there
                reason = _exit_reason(worker.process.exitcode)
                self.stop(number)
                return Died(number, reason)
        return Ready(number) if message == READY else Finished(number, message)

    @staticmethod
    def _end(workers: Sequence[_Worker]) -> None:
        for worker in workers:
            worker.process.kill()  # a worker writes no files, so there is nothing to clean up
            worker.pipe.close()
        for worker in workers:
            worker.process.join()


def _exit_reason(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "killed (signal 9), as the system does when memory runs out"
    if exitcode is not None and exitcode < 0:
        return f"signal {-exitcode} ({signal.Signals(-exitcode).name})"
    return f"exit code {exitcode}"


@contextmanager
def _without_main_module() -> Iterator[None]:
    """A process started meanwhile does not import the user's script, which might evaluate again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Blocks SIGINT; a process started meanwhile inherits the mask and prints no traceback on Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# Units are planned to take seconds to minutes on an accelerator, which may be hours of a large network on one
# core: what takes longer hangs.
UNIT_SECONDS = 6 * 3600.0


def _overdue(unit: Unit) -> UnitFailure:
    return UnitFailure(unit, f"took longer than {UNIT_SECONDS:g} s, as what hangs does", 1)


# A fresh process can help if the last one was killed, hung or lost its device. One retry.
ATTEMPTS = 2
SPARE_STARTS = 3


@dataclass
class Dispatch:
    """Units on the workers of a pool, in the order given.

    A worker that dies or hangs is replaced, and the unit is tried once more by another one. Idle workers get
    units only while the caller asks for outcomes.

    Attributes:
        idle: workers of the pool that wait for units; at the end, those of this call as well.
            If the call ends early, the pool and its processes end.
        workers: how many may run at once, idle ones included.
        deadline: on ``clock``, when units that still run are dropped.
        deadlines: of the unit that a worker was given last.
    """

    pool: WorkerPool
    idle: set[int]
    waiting: deque[Unit]
    workers: int
    clock: Callable[[], float] = time.monotonic
    deadline: float = math.inf
    starting: set[int] = field(default_factory=set)
    busy: dict[int, Unit] = field(default_factory=dict)
    deadlines: dict[int, float] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    outcomes: deque[UnitResult | UnitFailure] = field(default_factory=deque)
    failed_starts: int = 0

    def run(self) -> Generator[UnitResult | UnitFailure, None, None]:
        """Yields one outcome for each unit, in the order in which they arrive.

        Raises:
            EngineError: workers die before they can take a unit.
            TimeIsUp: units are left at the deadline.
        """
        try:
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
        except BaseException:
            self.pool.close()
            self.idle.clear()
            raise

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
                unit = self.busy.pop(worker)
                if isinstance(outcome, UnitFailure):
                    outcome = replace(outcome, attempts=outcome.attempts + self.attempts[unit.id])
                self.outcomes.append(outcome)
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
            waiting = deque(units)
            yield from Dispatch(self._pool, self._idle, waiting, self._workers, deadline=deadline()).run()
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
