"""One example of a run: what every defence answered to it under every attack."""

from robustbench_coded.errors import InputError
from robustbench_coded.reports.run.worst import answer_text, answers, outcomes_of
from robustbench_coded.reports.text.formatting import budget_text, inference_text, series
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.results.run import Run
from robustbench_coded.schema.controls import CLEAN, COMBINED

NEAREST = 3  # examples named in place of one that a run does not have


def example_text_table(run: Run, example: int) -> TextTable:
    """A row per attack that was scored on the example, with its answers over the scoring draws.

    Raises:
        InputError: the run has no outcomes for the example.
    """
    outcomes = run.outcomes
    outcomes = outcomes[(outcomes["example"] == example) & (outcomes["replicate"] == 0)]
    rows = []
    for row in run.results:
        if row.cell is None or row.key.attack in COMBINED:
            continue
        found = (row.cell.example == example).nonzero()[0]
        if not len(found):
            continue
        i = int(found[0])
        subject = row.key.subject
        margin = outcomes_of(outcomes, row.key)["margin"].mean()
        rows.append(
            (
                subject.checkpoint,
                inference_text(subject, with_k=True),
                str(row.key.threat),
                row.key.attack,
                "" if row.key.attack == CLEAN else budget_text(row.key.budget),
                str(int(row.cell.label[i])),
                f"{int(row.cell.correct[i].sum())} of {len(row.cell.draw)}",
                answer_text(answers(row.cell, i)),
                f"{margin:.2f}",
            )
        )
    if not rows:
        raise InputError(f"--example {example}: {run.path} has no outcomes for it; {_known(run, example)}")
    heads = ("Checkpoint", "Inference", "Threat", "Attack", "Budget", "Label", "Right", "Answers", "Margin")
    return TextTable(heads, tuple(rows), frozenset({"Label", "Right", "Margin"}))


def _known(run: Run, example: int) -> str:
    """Which examples a run has: all where they follow one another, else those around the one asked for."""
    known = sorted({int(i) for row in run.results if row.cell is not None for i in row.cell.example})
    if not known:
        return "its examples are none yet"
    if known[-1] - known[0] + 1 == len(known):
        return f"its examples are {known[0]} to {known[-1]}"
    near = sorted(sorted(known, key=lambda i: abs(i - example))[:NEAREST])
    return f"of its {len(known)} examples the nearest are {series([str(i) for i in near])}"
