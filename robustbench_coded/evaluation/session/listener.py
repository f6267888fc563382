"""Listeners of an evaluation, and its progress on standard error: how far the whole is, with the
time left, and what each case found.

At a terminal one line that changes; elsewhere, in a notebook too, a line after a unit, at most every ten
seconds. The cost counts gradient evaluations: one image forwarded and differentiated; a forward alone is a
third.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.status import Status
from rich.table import Column

from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.protocol.plan import Need
from robustbench_coded.reports.render.sentence import print_line
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.reports.text.formatting import duration, perturbation_text, pixels, subject_text
from robustbench_coded.run import Run
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.words import CLEAN, Rung, VerdictName

BAR = 16  # cells
EVERY = 10.0  # seconds between two lines where there is no terminal
FIRST = 30.0  # seconds that say little of the speed
LATE = 30.0  # seconds of set-up after which it is named where there is no terminal


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
    """Receives the events of an evaluation and ignores them; override the methods that you need."""

    def note(self, text: str) -> None:
        """A sentence for the user, for example how a network was recognised."""

    def preparing(self, text: str) -> None:
        """Announces what is read before anything is planned; it may still turn out to be unusable."""

    def opened(self, path: Path) -> None:
        """The run folder is this one."""

    def begun(self, step: Need, open_inputs: Collection[str]) -> None:
        """This is what runs next, and why.

        Args:
            open_inputs: the kinds of attacked inputs that have a verdict which may still change.
        """

    def planned(self, plan: Plan, images: int, *, remade: int = 0) -> None:
        """The units of a step are known and none has run yet.

        Args:
            images: image gradients of its units that are not committed yet, and of what runs after them
                whatever comes out; an open verdict adds more.
            remade: units of an interrupted run whose perturbed inputs are made again first.
        """

    def inputs_made(self, unit: Unit, number: int) -> None:
        """The perturbed inputs of a unit are made again, as the ``number``-th of those planned."""

    def unit_done(self, unit: Unit, correct: int, scored: int, draws: int = 1) -> None:
        """A unit is committed; of its ``scored`` outcomes, of so many draws, ``correct`` were right."""

    def unit_failed(self, unit: Unit, error: str) -> None:
        """A unit has no outcomes."""

    def settled(self, stop: Stop) -> None:
        """Nothing that may still run can change this verdict."""

    def reported(self, run: Run) -> None:
        """The run is finished, and its reports are written from this."""

    def stopping(self) -> None:
        """Interrupted: no unit is computed any more, the reports of what is finished are written now."""

    def close(self) -> None:
        """Ends the progress, whether or not the evaluation is complete."""


def case_name(case: PlannedCase) -> str:
    """A case in one line: checkpoint, defence with its sizes, threat model, attack and eps."""
    s = case.subject
    sizes = ", ".join(
        f"{name}={value}" for name, value in (("K", s.subject.k), ("N", s.subject.n)) if value is not None
    )
    defence = f"{s.label} {sizes}".strip()
    eps = "" if case.attack == CLEAN else f" | eps {pixels(case.perturbation.eps)}"
    return one_line(f"{s.checkpoint} | {defence} | {case.threat} | {case.attack}{eps}")


class ProgressListener(Listener):
    """Prints to standard error, so that standard output holds the result alone.

    Attributes:
        path: the run folder, once it is open.
        run: what the reports were written from, once they are.
        when_stopping: called when an interrupt has reached the run.
    """

    def __init__(self, console: Console, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic):
        self._console = console
        self._quiet = quiet
        # Names of cases are shortened to whatever the line has left; figures are shown whole.
        self._live = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(BAR),
            TextColumn("{task.fields[progress]}", markup=False, table_column=Column(no_wrap=True)),
            TimeElapsedColumn(Column(no_wrap=True)),
            console=console,
            transient=True,
            expand=True,
            disable=quiet or not console.is_terminal,
        )
        self.path: Path | None = None
        self.run: Run | None = None
        self.when_stopping: Callable[[], None] = lambda: None
        self._task: TaskID | None = None
        self._status: Status | None = None
        self._late: threading.Timer | None = None
        # By what a line is for: a case in its own batches, or in random ones.
        self._remaining: Counter[tuple[PlannedCase, bool]] = Counter()
        self._done = self._total = 0  # image gradients
        self._clock = clock
        self._began = self._printed = 0.0
        self._remade = 0
        self._tally: dict[tuple[PlannedCase, bool], list[int]] = {}

    def note(self, text: str) -> None:
        if not self._quiet:
            print_line(self._console, text)

    def preparing(self, text: str) -> None:
        # At a terminal for as long as it lasts. Elsewhere as a line, once nothing can be refused any more or
        # it has taken a while: what is refused at once is refused in one line.
        self._end_status()
        if self._task is not None:
            self._advance(0, description=one_line(text))
        elif self._console.is_terminal and not self._quiet:
            self._status = self._console.status(escape(one_line(text)))
            self._status.start()
        elif self.path is not None:
            self.note(text)
        elif not self._quiet:
            self._late = threading.Timer(LATE, self.note, (text,))
            self._late.daemon = True
            self._late.start()

    def opened(self, path: Path) -> None:
        self._end_status()
        self.path = path

    def settled(self, stop: Stop) -> None:
        case = stop.case
        under = f" under {case.attack}" if case.attack else ""
        where = f"({case.threat}, {perturbation_text(case.perturbation)}){under}"
        images = f"{stop.examples:,} of {stop.planned:,} images"
        self.note(f"{stop.verdict}, final: {subject_text(case.subject, with_k=True)} {where}, {images}")

    def reported(self, run: Run) -> None:
        self.close()
        self.run = run

    def stopping(self) -> None:
        self.when_stopping()
        self.close()
        self.note("stopped; writing the reports of what is finished")

    def begun(self, step: Need, open_inputs: Collection[str]) -> None:
        self._end_status()
        of_batches = "batch" in {case.threat.inputs for case in step.cases}
        if step.rung == Rung.NAMED_ROWS and of_batches and "batch" not in open_inputs:
            of = " on whole batches" if open_inputs else ""
            more = "running the table's other attacks (Ctrl-C keeps the verdicts)"
            self.note(f"verdicts{of} are final; {more}")
        self.note(str(step))

    def planned(self, plan: Plan, images: int, *, remade: int = 0) -> None:
        self._end_status()
        self._remaining.update((unit.case, bool(unit.random_batches)) for unit in plan.units)
        self._remade = remade
        self._began = self._began or self._clock()
        self._printed = self._printed or self._began
        self._total = self._done + images
        if self._live.disable:
            return
        self._live.start()
        if self._task is None:
            self._task = self._live.add_task("starting", progress="")
        self._advance(0)

    def inputs_made(self, unit: Unit, number: int) -> None:
        text = one_line(f"making inputs of {unit.case.attack} again, {number} of {self._remade}")
        self._advance(unit.images, description=text)

    def unit_done(self, unit: Unit, correct: int, scored: int, draws: int = 1) -> None:
        name, shown = case_name(unit.case), (unit.case, bool(unit.random_batches))
        tally = self._tally.setdefault(shown, [0, 0])
        if unit.random_batches:  # of cases whose own batches were counted before
            tally[0] = max(tally[0], *unit.random_batches)  # with those of an earlier command
            text = f"{tally[0]:,} random batches"
        else:  # a count; accuracies have intervals, and come at the end
            tally[0] += correct
            tally[1] += scored
            text = f"{tally[0]:,} of {tally[1]:,} predictions correct"
            text += f" ({tally[1] // draws:,} images x {draws} draws)" * (draws > 1)
        self._advance(unit.images, description=f"{name}  {text}")
        self._remaining[shown] -= 1
        if not self._remaining[shown]:
            self.note(f"  {name}: {text}")

    def unit_failed(self, unit: Unit, error: str) -> None:
        print_line(self._console, f"  failed  {case_name(unit.case)}: {error}")

    def close(self) -> None:
        """Takes the live display away."""
        self._end_status()
        if not self._live.disable:  # older versions of rich print an empty line all the same
            self._live.stop()

    def _advance(self, images: int, **fields: str) -> None:
        self._done += images
        if self._task is not None:
            fields["progress"] = self._how_far()
            self._live.update(self._task, completed=self._done, total=self._total, **fields)  # type: ignore[arg-type]
        elif self._clock() - self._printed >= EVERY:
            self._printed = self._clock()
            self.note(f"  {self._how_far()}")

    def _how_far(self) -> str:
        share = f"{self._done / max(self._total, 1):.0%} of {self._total:,} gradient evaluations"
        passed = self._clock() - self._began
        if passed < FIRST or self._done < self._total / 50:
            return share
        return f"{share}, {duration(passed * max(self._total - self._done, 0) / self._done)} left"

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._late is not None:
            self._late.cancel()
            self._late = None
