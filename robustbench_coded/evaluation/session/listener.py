"""What an evaluation reports as it goes, and how a notebook shows it."""

import sys
import threading
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.session.forecast import Forecast
from robustbench_coded.evaluation.session.schedule import Step
from robustbench_coded.judge.run import Run
from robustbench_coded.log import LOG, show_log
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.reports.text.formatting import duration, pixels
from robustbench_coded.schema.manifest import Stop
from robustbench_coded.schema.words import CLEAN


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

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        """The units of a step are known and none has run yet."""

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
        f"{name}={value}" for name, value in (("K", s.subject.k), ("N", s.n)) if value is not None
    )
    defence = f"{s.label} {sizes}".strip()
    eps = "" if case.attack == CLEAN else f" | eps {pixels(case.perturbation.eps)}"
    return one_line(f"{s.checkpoint} | {defence} | {case.threat} | {case.attack}{eps}")


def in_notebook() -> Listener | None:
    """A bar below the cell where this is a notebook's process; None elsewhere."""
    ipython = sys.modules.get("IPython")  # loaded by whoever runs cells
    shell = None if ipython is None else ipython.get_ipython()
    return NotebookListener() if hasattr(shell, "kernel") else None


class Progress:
    """How far a whole evaluation is, in image gradients, and how long the rest takes at the speed so far."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = self.total = 0
        self._clock, self._began = clock, 0.0

    def planned(self, forecast: Forecast) -> None:
        """A step begins."""
        self._began = self._began or self._clock()
        self.total = self.done + forecast.images + forecast.later

    def __str__(self) -> str:
        said = f"{self.done:,} of at least {self.total:,} images"
        if not self.done:
            return said
        left = (self._clock() - self._began) * max(self.total - self.done, 0) / self.done
        return f"{said}, {duration(left)} left"


class Ticker:
    """Says something every so many seconds, from a thread of its own, until it is stopped."""

    def __init__(self, say: Callable[[], None], seconds: float = 10.0) -> None:
        self._say, self._seconds, self._over = say, seconds, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Does nothing where it runs or was stopped."""
        if not self._thread.ident:
            self._thread.start()

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            self._say()


class LineListener(Listener):
    """Lines of the log, for scripts: sentences for the user, and every ten seconds how far it is."""

    def __init__(self) -> None:
        show_log()
        self._progress = Progress()
        self._ticker = Ticker(lambda: self.note(f"  {self._progress}"))

    def note(self, text: str) -> None:
        LOG.info("%s", one_line(text))

    def begun(self, step: Step) -> None:
        self.note(str(step))

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        self._progress.planned(forecast)
        self._ticker.start()

    def inputs_made(self, unit: Unit, number: int) -> None:
        self._progress.done += unit.images

    def unit_done(self, unit: Unit, correct: int, scored: int) -> None:
        self._progress.done += unit.images

    def unit_failed(self, unit: Unit, error: str) -> None:
        self.note(f"failed: {case_name(unit.case)}: {error}")

    def close(self) -> None:
        self._ticker.stop()


class NotebookListener(Listener):
    """A bar over the images of what is planned, the case that runs, and every sentence for the user.

    The bar goes when the reports are written; the sentences stay.
    """

    def __init__(self) -> None:
        self._shown: Any = None
        self._notes: list[str] = []
        self._progress = Progress()
        self._text = ""

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._show()

    def preparing(self, text: str) -> None:
        self._text = text
        self._show()

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        self._progress.planned(forecast)
        self._show()

    def inputs_made(self, unit: Unit, number: int) -> None:
        self._advance(unit, f"making inputs of {unit.case.attack} again")

    def unit_done(self, unit: Unit, correct: int, scored: int) -> None:
        self._advance(unit, case_name(unit.case))

    def unit_failed(self, unit: Unit, error: str) -> None:
        self.note(f"failed: {case_name(unit.case)}: {error}")

    def reported(self, run: Run) -> None:
        self._text, self._progress = "", Progress()
        self._show()

    def stopping(self) -> None:
        self._text, self._progress = "", Progress()
        self.note("stopped; writing the reports of what is finished")

    def _advance(self, unit: Unit, text: str) -> None:
        self._progress.done += unit.images
        self._text = f"{self._progress}  {text}"
        self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        done, total = self._progress.done, self._progress.total
        bar = f'<progress value="{done}" max="{total}"></progress> ' if total else ""
        lines = [*map(escape, self._notes), f"{bar}{escape(self._text)}"]
        html = HTML("<br>".join(line for line in lines if line))
        if self._shown is None:
            self._shown = display(html, display_id=True)
        else:
            self._shown.update(html)
