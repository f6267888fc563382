"""Accuracy against batch size: Table 10 of arXiv 2510.00253 as a plot."""

from collections.abc import Sequence

from robustbench_coded.reports.figures.style import (
    MOST_PANELS,
    Drawing,
    drawing,
    first_of,
    legend,
    panels,
    percent_axis,
    plot,
    subject_title,
)
from robustbench_coded.reports.run.lookup import main_budget
from robustbench_coded.reports.text.formatting import budget_text
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.summary import SummaryRow

THREAT = WHOLE_BATCH


def draw(rows: Sequence[SummaryRow]) -> Drawing | None:
    """A panel per swept defence, a line per attack; None where each defence had one batch size."""
    budget = main_budget(rows)
    swept: dict[tuple[str, str], list[SummaryRow]] = {}
    for row in rows:
        usable = row.accuracy is not None and row.subject.k is not None
        if usable and row.threat == THREAT and row.attack not in ("strongest", "naive-min"):
            swept.setdefault((row.subject.checkpoint, row.subject.defence), []).append(row)
    swept = {pair: found for pair, found in swept.items() if len({row.subject.k for row in found}) > 1}
    if budget is None or not swept:
        return None
    shown = list(swept.items())[:MOST_PANELS]
    figure, axes = panels(len(shown), 3.0)
    names = list(dict.fromkeys(row.attack for _, found in shown for row in found))
    for panel, (_, found) in zip(axes, shown, strict=True):
        for name in names:
            curve = {
                row.subject.k: row
                for row in found
                if row.attack == name and (row.attack == "clean" or row.budget == budget)
            }
            sizes = sorted(k for k in curve if k is not None)
            dashes = "--" if name.startswith("ensemble") else "-"
            plot(panel, sizes, [curve[k] for k in sizes], names.index(name), name, linestyle=dashes)
        first = found[0].subject
        panel.set_xscale("log", base=2)
        sizes = sorted({row.subject.k for row in found if row.subject.k is not None})
        panel.set_xticks(sizes, [str(k) for k in sizes])
        panel.minorticks_off()
        panel.set_xlabel("batch size K")
        subject_title(panel, first._replace(k=None, n=None))
        percent_axis(panel)
    legend(figure, axes)
    caption = f"Accuracy under each attack ({THREAT}, {budget_text(budget)}) with 95% intervals."
    caption += first_of(len(shown), len(swept), "subjects")
    return drawing(figure, "batch-sizes", "Accuracy against batch size", caption)
