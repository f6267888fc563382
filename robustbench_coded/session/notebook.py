"""Progress below the cell of a notebook, while an evaluation runs in it."""

import sys
from html import escape
from typing import Any

from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.results.run import Run
from robustbench_coded.session.forecast import Forecast
from robustbench_coded.session.listener import Listener, row_name


def in_notebook() -> Listener | None:
    """A bar below the cell where this is a notebook's process; None elsewhere."""
    ipython = sys.modules.get("IPython")  # loaded by whoever runs cells
    shell = None if ipython is None else ipython.get_ipython()
    return NotebookListener() if hasattr(shell, "kernel") else None


class NotebookListener(Listener):
    """A bar over the images of what is planned, the row that runs, and every sentence for the user.

    The bar goes when the reports are written; the sentences stay.
    """

    def __init__(self) -> None:
        self._shown: Any = None
        self._notes: list[str] = []
        self._total = self._done = 0
        self._text = ""

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._show()

    def preparing(self, text: str) -> None:
        self._text = text
        self._show()

    def making(self, what: str, done: int, total: int) -> None:
        self._text, self._done, self._total = what, done, total
        self._show()

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        self._done, self._total = 0, forecast.images
        self._show()

    def inputs_made(self, unit: Unit, number: int) -> None:
        self._advance(unit, f"making inputs of {unit.row.attack} again")

    def unit_done(self, unit: Unit, correct: int, scored: int) -> None:
        self._advance(unit, row_name(unit.row))

    def unit_failed(self, unit: Unit, error: str) -> None:
        self.note(f"failed: {row_name(unit.row)}: {error}")

    def reported(self, run: Run) -> None:
        self._text, self._total = "", 0
        self._show()

    def stopping(self) -> None:
        self._total = 0
        self.note("stopped; writing the reports of what is finished")

    def _advance(self, unit: Unit, text: str) -> None:
        self._done += unit.images
        self._text = text
        self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        bar = f'<progress value="{self._done}" max="{self._total}"></progress> ' if self._total else ""
        lines = [*map(escape, self._notes), f"{bar}{escape(self._text)}"]
        html = HTML("<br>".join(line for line in lines if line))
        if self._shown is None:
            self._shown = display(html, display_id=True)
        else:
            self._shown.update(html)
