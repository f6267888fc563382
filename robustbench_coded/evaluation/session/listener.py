"""What an evaluation reports as it goes."""

from pathlib import Path
from typing import NamedTuple

from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.session.schedule import Step
from robustbench_coded.judge.run import Run
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.reports.text.formatting import pixels
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.words import CLEAN, VerdictName


class Stop(NamedTuple):
    """A verdict that nothing can change any more.

    Attributes:
        case: with the attack that leaves least; an empty name where none has all of its outcomes.
        examples: on how many; planned: that may be attacked.
    """

    case: Case
    verdict: VerdictName
    examples: int
    planned: int


class Listener:
    """Hears nothing; override what is wanted."""

    def note(self, text: str) -> None:
        """A sentence for the user, for example that a normalisation was guessed."""

    def preparing(self, text: str) -> None:
        """What is being looked at before anything is planned; it may still turn out to be unusable."""

    def opened(self, path: Path) -> None:
        """The run folder is this one."""

    def begun(self, step: Step) -> None:
        """This is what runs next, and why."""

    def planned(self, plan: Plan, images: int, *, again: int = 0) -> None:
        """The units of a step are known and none has run yet.

        Args:
            images: image gradients of its units that are not committed yet, and of what runs after them
                whatever comes out; an open verdict adds more.
            again: units of an interrupted run whose perturbed inputs are made again first.
        """

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

    def close(self) -> None:
        """Nothing comes any more, whatever kept the evaluation from its end."""


def case_name(case: PlannedCase) -> str:
    """A case in one line: checkpoint, defence with its sizes, threat model, attack and eps."""
    s = case.subject
    sizes = ", ".join(
        f"{name}={value}" for name, value in (("K", s.subject.k), ("N", s.subject.n)) if value is not None
    )
    defence = f"{s.label} {sizes}".strip()
    eps = "" if case.attack == CLEAN else f" | eps {pixels(case.perturbation.eps)}"
    return one_line(f"{s.checkpoint} | {defence} | {case.threat} | {case.attack}{eps}")
