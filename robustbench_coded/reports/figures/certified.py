"""Certified, unknown and broken: what bounds and attacks leave of every subject."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from robustbench_coded.reports.figures.style import (
    COLOURS,
    LABEL_WIDTH,
    WIDTH,
    Drawing,
    drawing,
    first_of,
    label,
)
from robustbench_coded.reports.text.formatting import budget_text, inference_text
from robustbench_coded.results.certified import CertifiedRow

MOST_BARS = 24
_PARTS = (("certified", COLOURS[2], ""), ("unknown", "#BBBBBB", "//"), ("broken", COLOURS[1], ""))


def draw(rows: Sequence[CertifiedRow]) -> Drawing | None:
    """A bar per subject, threat model and budget; None where nothing is certified."""
    found = [row for row in rows if row.certified is not None and row.ensemble is not None]
    shown = found[:MOST_BARS]
    if not shown:
        return None
    figure = Figure(figsize=(WIDTH, 0.34 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = [
        f"{label(inference_text(row.key.subject, with_k=True), LABEL_WIDTH)}, {row.key.threat}\n"
        f"{label(row.key.checkpoint, LABEL_WIDTH)}, {budget_text(row.key.budget)}"
        for row in shown
    ]
    places = range(len(shown), 0, -1)
    left = [0.0] * len(shown)
    for part, colour, hatch in _PARTS:
        widths = [100 * _share(row, part) for row in shown]
        axes.barh(places, widths, left=left, color=colour, hatch=hatch, edgecolor="white", label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(list(places), names, fontsize=7)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of answers, %")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=3)
    caption = (
        "Shares of answers: certified (no perturbation within eps can make them wrong), broken (wrong "
        "under the ensemble of attacks), and unknown (neither)."
    ) + first_of(len(shown), len(found), "bars")
    return drawing(figure, "certified", "Certified, unknown and broken", caption)


def _share(row: CertifiedRow, part: str) -> float:
    if part == "certified":
        return row.certified.estimate if row.certified is not None else 0.0
    return (row.unknown if part == "unknown" else row.broken) or 0.0
