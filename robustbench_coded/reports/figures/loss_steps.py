"""The loss over an attack's steps, as its attacker sees it."""

from robustbench_coded.reports.figures.style import (
    MOST_PANELS,
    Drawing,
    drawing,
    legend,
    logarithmic,
    panels,
    style_of,
    subject_title,
)
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.threat_model import ThreatModel

# A line of an attack: name, threat model, step (from 1) -> mean loss before it.
Curve = tuple[str, ThreatModel, dict[int, float]]


def draw(run: Run) -> Drawing | None:
    """A panel per subject, a line per PGD attack; None where no unit tells its losses."""
    found: dict[SubjectKey, list[Curve]] = {}
    for row in run.results:
        losses = losses_of(run.counts_of(row.key)) if row.cell is not None else {}
        if len(losses) > 1:
            curve = (row.key.attack, row.key.threat, losses)
            found.setdefault(row.key.subject, []).append(curve)
    shown = list(found.items())[:MOST_PANELS]
    if not shown:
        return None
    figure, axes = panels(len(shown), 2.8)
    names = list(dict.fromkeys(curve[:2] for _, curves in shown for curve in curves))
    for panel, (subject, curves) in zip(axes, shown, strict=True):
        for attack, threat, losses in curves:
            style = style_of(names.index((attack, threat)), attack)
            panel.plot(list(losses), list(losses.values()), **{**style, "markersize": 3})
        logarithmic(panel)
        subject_title(panel, subject)
        panel.set_xlabel("step")
        panel.set_ylabel("mean cross-entropy")
        panel.set_ylim(bottom=0)
    legend(figure, axes)
    caption = (
        "Mean loss before each step, as the attacker sees it: on fresh draws, on the known draw, or on the "
        "base model. An attack whose line stays low is not effective; one whose line still rises at the "
        "end had too few steps."
    )
    return drawing(figure, "loss-over-steps", "Attack loss over the steps", caption)


def losses_of(counts: dict[str, float]) -> dict[int, float]:
    """Step (from 1) -> mean loss, from what units counted; names of a stranger's file may be anything."""
    found = {}
    for name, total in counts.items():
        step = name.removeprefix("loss_")
        inputs = counts.get(f"inputs_{step}", 0.0)
        if name.startswith("loss_") and step.isdecimal() and len(step) < 6 and inputs > 0:
            found[int(step) + 1] = total / inputs
    return dict(sorted(found.items()))
