"""In how many of its draws a randomised defence answers each example rightly."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from robustbench_coded.reports.figures.style import (
    COLOURS,
    MARKERS,
    MOST_PANELS,
    Drawing,
    drawing,
    first_of,
    legend,
    panels,
    subject_title,
)
from robustbench_coded.reports.paper.paper import papers_attack
from robustbench_coded.schema.controls import CONTROLS
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.case_results import CaseResult

DASHES = ("-", "--", ":")


def draw(rows: Sequence[CaseResult]) -> Drawing | None:
    """A panel per randomised subject, a line for clean inputs, the paper's attacks and the strongest one."""
    subjects: dict[tuple, list[CaseResult]] = {}
    for row in rows:
        if row.randomised and row.cell is not None and row.key.threat == WHOLE_BATCH:
            subjects.setdefault(row.key.subject, []).append(row)
    several = [found for found in subjects.values() if any(r.cell and len(r.cell.draw) > 1 for r in found)]
    shown = several[:MOST_PANELS]
    if not shown:
        return None
    figure, axes = panels(len(shown))
    for panel, found in zip(axes, shown, strict=True):
        for i, (name, row) in enumerate(_three(found)):
            assert row.cell is not None  # rows without outcomes are left out above
            draws = len(row.cell.draw)
            share = np.bincount(row.cell.correct.sum(axis=1), minlength=draws + 1) / len(row.cell.example)
            panel.plot(
                range(draws + 1),
                100 * share,
                color=COLOURS[i],
                marker=MARKERS[i],
                linestyle=DASHES[i],
                label=name,
            )
        subject_title(panel, found[0].key.subject)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.set_xlabel("correct draws")
        panel.set_ylabel("examples, %")
    legend(figure, axes)
    caption = (
        "Share of examples that are answered correctly in none, one, ... all of the scoring draws. Noise "
        "spreads examples over the middle; a successful attack moves them to the left."
    ) + first_of(len(shown), len(several), "subjects")
    return drawing(figure, "correct-draws", "Correct draws per example", caption)


def _three(rows: Sequence[CaseResult]) -> list[tuple[str, CaseResult]]:
    """Clean inputs, the lowest of the paper's attacks and the strongest attack, as far as they ran."""
    chosen = [("clean", row) for row in rows if row.key.attack == "clean"][:1]
    papers = [row for row in rows if row.key.attack not in CONTROLS and papers_attack(row.key.attack)]
    if papers:
        chosen.append(("lowest of FGSM and PGD", min(papers, key=_accuracy)))
    strongest = [row for row in rows if row.key.attack == "strongest"]
    if strongest:
        chosen.append(("strongest attack", min(strongest, key=_accuracy)))
    return chosen


def _accuracy(row: CaseResult) -> float:
    return 1.0 if row.cell is None else float(row.cell.correct.mean())
