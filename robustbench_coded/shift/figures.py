"""Figures of a shift run: accuracy over severity, and accuracy by corruption."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from robustbench_coded.reports.figures.style import (
    COLOURS,
    MARKERS,
    WIDTH,
    Drawing,
    drawing,
    label,
    legend,
    panels,
    percent_axis,
    style_of,
    styled,
)
from robustbench_coded.reports.text.formatting import inference_text
from robustbench_coded.shift.corruptions.constants import CONSTANTS
from robustbench_coded.shift.rows import Row
from robustbench_coded.shift.sets import CLEAN
from robustbench_coded.shift.tables import inferences_of


def figures_of(rows: Sequence[Row], collection: str) -> list[Drawing]:
    """The figures of one collection of corrupted sets; none where there is a single set."""
    rows = [r for r in rows if r.collection == collection and r.figure == "accuracy"]
    with styled():
        return [
            drawn for draw in (_severities, _corruptions) if (drawn := draw(rows, collection)) is not None
        ]


def _severities(rows: Sequence[Row], collection: str) -> Drawing | None:
    points = [(int(r.over.split()[1]), r) for r in rows if r.over.startswith("severity")]
    points += [(0, r) for r in rows if r.over == CLEAN]
    if len({severity for severity, _ in points}) < 2:
        return None
    inferences = inferences_of(rows)
    checkpoints = list(dict.fromkeys(r.subject.checkpoint for r in rows))
    figure, axes = panels(len(inferences))
    for panel, inference in zip(axes, inferences, strict=True):
        for number, checkpoint in enumerate(checkpoints):
            subject = inference._replace(checkpoint=checkpoint)
            curve = sorted((p for p in points if p[1].subject == subject), key=lambda p: p[0])
            if not curve:
                continue
            values = [100 * r.estimate.value for _, r in curve]
            bars = [
                [max(v - 100 * (r.estimate.low or 0), 0) for v, (_, r) in zip(values, curve)],
                [max(100 * (r.estimate.high or 0) - v, 0) for v, (_, r) in zip(values, curve)],
            ]
            panel.errorbar([s for s, _ in curve], values, yerr=bars, **style_of(number, checkpoint))
        panel.set_title(label(inference_text(inference, with_k=True)))
        panel.set_xlabel("severity (0: clean)")
        panel.set_xticks(sorted({s for s, _ in points}))
        percent_axis(panel)
    legend(figure, axes)
    caption = f"{collection}: mean over the corruptions at each severity, with 95% intervals."
    return drawing(figure, _name("severity", collection), "Accuracy over severity", caption)


def _corruptions(rows: Sequence[Row], collection: str) -> Drawing | None:
    standard = inferences_of(rows)[0]
    chosen = [r for r in rows if r.severity is None and r.over in CONSTANTS]
    chosen = [r for r in chosen if r.subject[1:] == standard[1:]]
    names = list(dict.fromkeys(r.over for r in chosen))
    if len(names) < 2:
        return None
    checkpoints = list(dict.fromkeys(r.subject.checkpoint for r in chosen))
    figure = Figure(figsize=(WIDTH, 0.26 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    for number, checkpoint in enumerate(checkpoints):
        of = {r.over: r for r in chosen if r.subject.checkpoint == checkpoint}
        axes.plot(
            [100 * of[name].estimate.value for name in names],
            range(len(names)),
            linestyle="none",
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            label=label(checkpoint),
        )
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("accuracy, %")
    legend(figure, [axes])
    axes.set_ylabel("")
    caption = f"{collection}: mean over severities, {inference_text(standard)}. Intervals are in the table."
    return drawing(figure, _name("corruptions", collection), "Accuracy by corruption", caption)


def _name(kind: str, collection: str) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in collection.lower())
    return f"{kind}-{'-'.join(part for part in plain.split('-') if part)}"
