"""What an evaluation reports as it goes."""

from pathlib import Path

from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.reports.text.formatting import pixels
from robustbench_coded.results.run import Run
from robustbench_coded.schema.controls import CLEAN
from robustbench_coded.schema.stops import Stop
from robustbench_coded.session.forecast import Forecast


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

    def settled(self, stop: Stop) -> None:
        """Nothing that may still run can change this verdict."""

    def reported(self, run: Run) -> None:
        """The run is finished, and its reports are written from this."""

    def stopping(self) -> None:
        """Interrupted: no unit is computed any more, the reports of what is finished are written now."""


def row_name(row: AttackCase) -> str:
    """A row in one line: checkpoint, defence with its sizes, threat model, attack and eps."""
    s = row.subject
    sizes = ", ".join(
        f"{name}={value}" for name, value in (("K", s.shown_k), ("N", s.n)) if value is not None
    )
    defence = f"{s.label} {sizes}".strip()
    eps = "" if row.attack == CLEAN else f" | eps {pixels(row.eps)}"
    return one_line(f"{s.checkpoint} | {defence} | {row.threat} | {row.attack}{eps}")
