"""What became of perturbed inputs that were made against other subjects, shrunk, or rounded."""

from collections.abc import Sequence

from robustbench_coded.reports.text.formatting import (
    accuracy_text,
    budget_text,
    inference_text,
    is_submitted,
    percent,
)
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.schema.controls import STRONGEST
from robustbench_coded.statistics.summary import SummaryRow

SUBMITTED_TITLE = "Perturbed inputs of other subjects, shrunk ones, and those at 8 bits"
SUBMITTED_LEGEND = (
    "Inputs perturbed by an attack on another subject and submitted unchanged (from:SUBJECT/ATTACK), and "
    "each subject's own perturbations scaled down. Strongest: accuracy under the strongest of all attacks. "
    "If accuracy is lower here than under the attacks made against the defence, the defence misleads those "
    "attacks. +bits=8: every pixel is rounded to a multiple of 1/255 within eps, as a file of pictures holds "
    "it. If that raises the accuracy, the attack loses strength when images are stored."
)


def submitted_text_table(lines: Sequence[SummaryRow]) -> TextTable:
    """A row per subject and perturbed inputs."""
    heads = ("Checkpoint", "Inference", "Budget", "Perturbed inputs", "Accuracy", "Strongest")
    strongest = {(x.subject, x.budget, x.threat): x for x in lines if x.attack == STRONGEST}
    rows = []
    for row in lines:
        if not is_submitted(row.attack):
            continue
        best = strongest.get((row.subject, row.budget, row.threat))
        rows.append(
            (
                row.subject.checkpoint,
                inference_text(row.subject, with_k=True),
                budget_text(row.budget),
                row.attack,
                accuracy_text(row.accuracy, row.low, row.high),
                percent(best.accuracy if best is not None else None),
            )
        )
    return TextTable(heads, tuple(rows), frozenset({"Accuracy", "Strongest"}))
