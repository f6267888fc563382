"""What an evaluation reports as it goes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.results.run import Run


@dataclass(frozen=True)
class Forecast:
    """What lies ahead, before anything runs.

    Attributes:
        units, images: units still to do, and the image gradients they cost.
        follows: units that are likely to follow.
        again: units whose perturbed inputs are made again before that; ``images`` has them, too.
        done: units that an earlier run has already committed.
        seconds: about how long that takes here, with what is likely to follow.
        of: seconds that one unit takes one worker at most, about.
        shares: of their images, what rows whose attacks stop early are likely to need.
    """

    units: int
    images: int
    done: int
    seconds: float
    of: Callable[[Unit], float]
    shares: dict[AttackCase, float] = field(default_factory=dict)
    again: int = 0
    follows: int = 0

    def likely(self, unit: Unit) -> float:
        """Seconds that one unit is likely to take one worker."""
        return self.of(unit) * self.shares.get(unit.row, 1.0)


class Listener:
    """Hears nothing; override what is wanted."""

    def note(self, text: str) -> None:
        """A sentence for the user, for example that a normalisation was guessed."""

    def preparing(self, text: str) -> None:
        """What is being looked at before anything is planned; it may still turn out to be unusable."""

    def making(self, what: str, done: int, total: int) -> None:
        """Of ``total`` things that a run needs ``done`` are made: told before the first and after each."""

    def opened(self, path: Path) -> None:
        """The run folder is this one."""

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        """The plan is made and nothing has run yet."""

    def inputs_made(self, unit: Unit, number: int) -> None:
        """The perturbed inputs of a unit are made again, as the ``number``-th of those planned."""

    def unit_done(self, unit: Unit, correct: int, scored: int) -> None:
        """A unit is committed; of its ``scored`` outcomes ``correct`` were right."""

    def unit_failed(self, unit: Unit, error: str) -> None:
        """A unit has no outcomes."""

    def reported(self, run: Run) -> None:
        """The run is finished, and its reports are written from this."""

    def stopping(self) -> None:
        """Interrupted: no unit is computed any more, the reports of what is finished are written now."""
