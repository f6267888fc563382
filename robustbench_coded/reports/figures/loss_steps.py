"""The loss over an attack's steps, as its attacker sees it."""

from collections import Counter

from robustbench_coded.reports.figures.style import (
    MOST_PANELS,
    Drawing,
    drawing,
    first_of,
    legend,
    logarithmic,
    panels,
    style_of,
    subject_title,
)
from robustbench_coded.reports.run.lookup import main_budget
from robustbench_coded.reports.text.formatting import budget_text
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.threat_model import ThreatModel

# A line of an attack: name, threat model, step (from 1) -> mean loss before it.
Curve = tuple[str, ThreatModel, dict[int, float]]


def draw(run: Run) -> Drawing | None:
    """A panel per subject, a line per PGD attack; None where no unit tells its losses."""
    found: dict[SubjectKey, list[Curve]] = {}
    budget = main_budget([row for row in run.rows if row.budget in run.manifest.judged_budgets])
    for row in run.results:
        shown = row.cell is not None and row.key.budget == budget
        losses = losses_of(run.counts_of(row.key)) if shown else {}
        if len(losses) > 1:
            curve = (row.key.attack, row.key.threat, losses)
            found.setdefault(row.key.subject, []).append(curve)
    panes = list(found.items())[:MOST_PANELS]
    if budget is None or not panes:
        return None
    figure, axes = panels(len(panes), 2.8)
    names = list(dict.fromkeys(curve[:2] for _, curves in panes for curve in curves))
    several = Counter(attack for attack, _ in names)
    lowest = min(min(losses.values()) for _, curves in panes for *_, losses in curves)
    for panel, (subject, curves) in zip(axes, panes, strict=True):
        for attack, threat, losses in curves:
            name = attack if several[attack] == 1 else f"{attack}, {threat}"
            style = style_of(names.index((attack, threat)), name)
            panel.plot(list(losses), list(losses.values()), **{**style, "markersize": 3})
        logarithmic(panel)
        subject_title(panel, subject)
        panel.set_xlabel("step")
        panel.set_ylabel("mean loss")
        panel.set_ylim(bottom=min(0.0, 1.1 * lowest))
    legend(figure, axes)
    caption = (
        f"Mean loss before each step ({budget_text(budget)}), as the attacker sees it: on fresh draws, on "
        "the known draw, or on the base model. It is the cross-entropy unless the attack's name gives "
        "another loss; a margin is negative where the answer is right. An attack whose line stays low is not "
        "effective; one whose line still rises at the end had too few steps."
    ) + first_of(len(panes), len(found), "subjects")
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
