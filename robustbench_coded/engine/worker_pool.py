"""The interface of a worker pool, and the events it reports."""

from dataclasses import dataclass
from typing import Any, Protocol

from robustbench_coded.evaluation.planning.cases import Unit


class EngineError(Exception):
    """Workers can't be started, whatever the unit. The message is one line."""


@dataclass(frozen=True)
class Ready:
    """A worker has started and can take its first unit."""

    worker: int


@dataclass(frozen=True)
class Finished:
    """A worker has finished its job and can take another.

    Attributes:
        outcome: of a unit a UnitResult or UnitFailure.
    """

    worker: int
    outcome: Any


@dataclass(frozen=True)
class Told:
    """What a busy worker says of its job. Units say nothing."""

    worker: int
    content: Any


@dataclass(frozen=True)
class Died:
    """A worker has died, and with it the job that it had."""

    worker: int
    reason: str


Event = Ready | Finished | Told | Died


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
