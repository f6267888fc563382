"""What an attack costs against what it leaves."""

from collections.abc import Sequence

from robustbench_coded.reports.figures.lookup import attacked, main_budget, subjects_of
from robustbench_coded.reports.figures.style import (
    MOST_PANELS,
    Drawing,
    drawing,
    legend,
    logarithmic,
    panels,
    percent_axis,
    plot,
    subject_title,
)
from robustbench_coded.reports.text.formatting import budget_text
from robustbench_coded.statistics.summary import SummaryRow


def draw(lines: Sequence[SummaryRow]) -> Drawing | None:
    """A panel per subject, a point per attack; None where no attack has a cost."""
    budget = main_budget(lines)
    costly = [
        line
        for line in attacked(lines)
        if line.budget == budget and line.forwards and line.threat.whole_batch
    ]
    subjects = [s for s in subjects_of(costly) if s.defence != "standard"][:MOST_PANELS]
    if budget is None or not subjects:
        return None
    figure, axes = panels(len(subjects), 2.9)
    spent = [_images(line) for line in costly]
    names = list(dict.fromkeys((line.attack, line.threat) for line in costly))
    for panel, subject in zip(axes, subjects, strict=True):
        for line in (line for line in costly if line.subject == subject):
            style = names.index((line.attack, line.threat))
            plot(panel, [_images(line)], [line], style, line.attack, linestyle="none")
        logarithmic(panel)
        panel.set_xlim(min(spent) / 1.6, max(spent) * 1.6)
        panel.set_xlabel("images per example")
        subject_title(panel, subject)
        percent_axis(panel)
    legend(figure, axes)
    caption = (
        "Images forward and backward per scored example against the accuracy that the attack leaves, with "
        f"95% intervals ({budget_text(budget)})."
    )
    return drawing(figure, "cost", "Cost against accuracy", caption)


def _images(line: SummaryRow) -> float:
    return (line.forwards or 0.0) + (line.backwards or 0.0)
