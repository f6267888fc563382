"""A comparison of runs as CSV, a line per run, subject and attack; figures are fractions."""

import csv
import io

from robustbench_coded.reports.compare.comparison import Comparison
from robustbench_coded.reports.run.tables import Cell
from robustbench_coded.reports.text.escape import csv_text

SUBJECT = ("checkpoint", "defence", "k", "n", "threat", "attack", "norm", "eps", "eps_space")
MEASURED = ("examples", "draws", "accuracy", "ci_low", "ci_high", "status")
DIFFERENCE = ("difference", "difference_low", "difference_high", "paired_examples", "paired_units")


def comparison_csv(comparison: Comparison) -> str:
    """The comparison; empty fields where no difference was formed or the paper has no number."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("run", *SUBJECT, *MEASURED, *DIFFERENCE, "paper"))
    names = list(comparison.runs)
    for table in comparison.tables:
        for row in table.rows:
            run = row.labels[0] if len(names) > 1 else names[0]
            for cell in row.cells:
                if cell is not None:
                    writer.writerow(csv_text(v) if isinstance(v, str) else v for v in (run, *_fields(cell)))
    return file.getvalue()


def _fields(cell: Cell) -> tuple[object, ...]:
    line, d = cell.line, cell.difference
    status = "done" if line.done else "incomplete"
    measured = (line.examples, line.draws, line.accuracy, line.low, line.high, status)
    apart: tuple[object, ...] = (None,) * len(DIFFERENCE)
    if d is not None:
        apart = (*(round(value, 6) for value in (d.estimate, d.low, d.high)), d.examples, d.units)
    return (*line.subject, line.threat, line.attack, *line.budget, *measured, *apart, cell.paper)
