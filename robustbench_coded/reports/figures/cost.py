"""What an attack costs against what it leaves."""

from collections.abc import Sequence

from robustbench_coded.reports.figures.style import (
    MOST_PANELS,
    Drawing,
    drawing,
    first_of,
    legend,
    logarithmic,
    panels,
    percent_axis,
    plot,
    subject_title,
)
from robustbench_coded.reports.run.lookup import attacked, cost, main_budget, subjects_of
from robustbench_coded.reports.text.formatting import budget_text, is_submitted
from robustbench_coded.statistics.summary import SummaryRow


def draw(rows: Sequence[SummaryRow]) -> Drawing | None:
    """A panel per subject, a point per attack; None where no attack has a cost."""
    budget = main_budget(rows)
    costly = [
        row
        for row in attacked(rows)
        if row.budget == budget and row.forwards and row.threat.whole_batch and not is_submitted(row.attack)
    ]
    found = [s for s in subjects_of(costly) if s.defence != "standard"]
    subjects = found[:MOST_PANELS]
    if budget is None or not subjects:
        return None
    figure, axes = panels(len(subjects), 2.9)
    spent = [cost(row) for row in costly]
    names = list(dict.fromkeys((row.attack, row.threat) for row in costly))
    for panel, subject in zip(axes, subjects, strict=True):
        for row in (row for row in costly if row.subject == subject):
            style = names.index((row.attack, row.threat))
            plot(panel, [cost(row)], [row], style, row.attack, linestyle="none")
        logarithmic(panel)
        panel.set_xlim(min(spent) / 1.6, max(spent) * 1.6)
        panel.set_xlabel("images per example")
        subject_title(panel, subject)
        percent_axis(panel)
    legend(figure, axes)
    caption = (
        "Images forward and backward per scored example against the accuracy that the attack leaves, with "
        f"95% intervals ({budget_text(budget)}). Inputs that were perturbed on another subject are left out: "
        "submitting them costs forward passes alone."
    ) + first_of(len(subjects), len(found), "subjects")
    return drawing(figure, "cost", "Cost against accuracy", caption)
