"""The interface of a worker pool, the events it reports, and the pool of worker processes on this
machine.
"""

import itertools
import multiprocessing
import pickle
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from robustbench_coded.evaluation.engine.worker import READY, NotReady, one_line, work
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import Setup
from robustbench_coded.evaluation.planning.cases import Unit


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
