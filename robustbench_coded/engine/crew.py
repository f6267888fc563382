"""A crew: workers that units are given to, wherever they run."""

from dataclasses import dataclass
from typing import Protocol

from robustbench_coded.engine.results import UnitFailure, UnitResult
from robustbench_coded.evaluation.planning.plan import Unit


class EngineError(Exception):
    """Workers can't be started: nothing to do with any one unit. The message is one line."""


@dataclass(frozen=True)
class Ready:
    """A hired worker has started and can take its first unit."""

    worker: int


@dataclass(frozen=True)
class Finished:
    """A worker is through with its unit and can take another."""

    worker: int
    outcome: UnitResult | UnitFailure


@dataclass(frozen=True)
class Died:
    """A worker is gone, with the unit that it had."""

    worker: int
    reason: str


Event = Ready | Finished | Died


class Crew(Protocol):
    """Workers by number. All methods but ``wait`` return at once."""

    def hire(self) -> int:
        """Starts a worker; ``wait`` reports it as Ready, or as Died."""

    def give(self, worker: int, unit: Unit) -> None:
        """Sends a unit to a worker that has none."""

    def wait(self, seconds: float | None) -> list[Event]:
        """What has happened; blocks until there is something, at most ``seconds``. 0 does not block."""

    def dismiss(self, worker: int) -> None:
        """Ends a worker, whatever it is doing; nothing is reported about it any more."""

    def close(self) -> None:
        """Ends all workers."""
