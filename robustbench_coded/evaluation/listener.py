"""What an evaluation tells whoever watches it."""

from dataclasses import dataclass

from robustbench_coded.evaluation.plan import Plan, Row, Unit


@dataclass(frozen=True)
class Forecast:
    """What lies ahead, before anything runs.

    Attributes:
        units, images: units still to do, and the image gradients they cost.
        done: units that an earlier run has already committed.
        seconds: about how long that takes here, from a timed forward and backward of each model.
    """

    units: int
    images: int
    done: int
    seconds: float


class Listener:
    """Hears nothing; override what is wanted."""

    def note(self, text: str) -> None:
        """A sentence for the user, for example that a normalisation was guessed."""

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        """The plan is made and nothing has run yet."""

    def unit_done(self, unit: Unit, correct: int, scored: int) -> None:
        """A unit is committed; of its ``scored`` outcomes ``correct`` were right."""

    def unit_failed(self, unit: Unit, error: str) -> None:
        """A unit has no outcomes."""

    def row_done(self, row: Row) -> None:
        """All units of a row are committed."""
