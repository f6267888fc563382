"""Live progress: what runs, how fast, how long it still takes, and the accuracy so far."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status

from robustbench_coded.cli.lines import print_line
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.reports.text.formatting import counted, pixels
from robustbench_coded.results.run import Run
from robustbench_coded.schema.controls import CLEAN
from robustbench_coded.session.forecast import Forecast
from robustbench_coded.session.listener import Listener


class ProgressListener(Listener):
    """Prints to standard error, so that standard output holds the result alone.

    Attributes:
        path: the run folder, once it is open.
        run: what the reports were written from, once they are.
        when_stopping: called when an interrupt has reached the run.
    """

    def __init__(self, console: Console, *, quiet: bool = False):
        self._console = console
        self._quiet = quiet
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self.path: Path | None = None
        self.run: Run | None = None
        self.when_stopping: Callable[[], None] = lambda: None
        self._task: TaskID | None = None
        self._making: TaskID | None = None
        self._status: Status | None = None
        self._left: dict[AttackCase, int] = {}
        self._again = 0
        self._tally: dict[AttackCase, list[int]] = {}

    def note(self, text: str) -> None:
        if not self._quiet:
            print_line(self._console, text)

    def preparing(self, text: str) -> None:
        # At a terminal alone, and for as long as it lasts: what is refused is refused in one line.
        if not self._quiet and self._console.is_terminal:
            self._status = self._console.status(escape(one_line(text)))
            self._status.start()

    def making(self, what: str, done: int, total: int) -> None:
        if self._making is None:
            self._progress.start()
            self._making = self._progress.add_task(one_line(what), total=total, rate="")
        self._progress.update(self._making, completed=done, rate=f"{done} of {total}")
        if done == total:
            self._end_making()

    def opened(self, path: Path) -> None:
        self._end_status()
        self.path = path

    def reported(self, run: Run) -> None:
        self.run = run

    def stopping(self) -> None:
        self.when_stopping()
        self.close()
        self.note("stopped; writing the reports of what is finished")

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        for unit in plan.units:
            self._left[unit.row] = self._left.get(unit.row, 0) + 1
        units = f"{len(plan.rows)} rows in {counted(forecast.units, 'unit')}"
        if forecast.done:
            units = f"{counted(forecast.units, 'more unit')} ({forecast.done} done)"
        self.note(
            f"{units}: {forecast.images:,} images forward and backward, about {duration(forecast.seconds)} "
            "on this machine"
        )
        for text in plan.notes:
            self.note(text)
        self._again = forecast.again
        if forecast.again:
            units = counted(forecast.again, "unit")
            self.note(f"first the perturbed inputs of {units} are made again, to be submitted")
        if forecast.units:
            self._progress.start()
            self._task = self._progress.add_task("starting", total=forecast.images, rate="")

    def inputs_made(self, unit: Unit, number: int) -> None:
        said = f"making inputs of {unit.row.attack} again, {number} of {self._again}"
        if self._task is not None:
            self._progress.update(self._task, advance=unit.images, description=one_line(said))

    def unit_done(self, unit: Unit, correct: int, scored: int) -> None:
        tally = self._tally.setdefault(unit.row, [0, 0])
        tally[0] += correct
        tally[1] += scored
        name = row_name(unit.row)
        right = f"{tally[0]:,}/{tally[1]:,} right"  # a count; accuracies have intervals, and come at the end
        if self._task is not None:
            self._progress.update(self._task, advance=unit.images, description=f"{name}  {right}")
            speed = self._progress.tasks[self._task].speed
            self._progress.update(self._task, rate=f"{speed:,.0f} images/s" if speed else "")
        self._left[unit.row] -= 1
        if not self._left[unit.row]:
            self.note(f"  {right:>15}  {name}")

    def unit_failed(self, unit: Unit, error: str) -> None:
        print_line(self._console, f"  failed  {row_name(unit.row)}: {error}")

    def close(self) -> None:
        """Takes the live display away."""
        self._end_status()
        self._end_making()
        self._stop_progress()

    def _stop_progress(self) -> None:
        if not self._progress.disable:  # older versions of rich print an empty line all the same
            self._progress.stop()

    def _end_making(self) -> None:
        if self._making is not None:
            self._stop_progress()
            self._progress.update(self._making, visible=False)
            self._making = None

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def row_name(row: AttackCase) -> str:
    """A row in one line: checkpoint, defence with its sizes, threat model, attack and eps."""
    s = row.subject
    sizes = ", ".join(
        f"{name}={value}" for name, value in (("K", s.shown_k), ("N", s.n)) if value is not None
    )
    defence = f"{s.label} {sizes}".strip()
    eps = "" if row.attack == CLEAN else f" | eps {pixels(row.eps)}"
    return one_line(f"{s.checkpoint} | {defence} | {row.threat} | {row.attack}{eps}")


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
