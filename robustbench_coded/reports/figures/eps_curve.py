"""The security curve: accuracy over eps."""

from collections.abc import Sequence

from robustbench_coded.reports.figures.style import (
    MOST_PANELS,
    Drawing,
    drawing,
    first_of,
    label,
    legend,
    panels,
    percent_axis,
    plot,
)
from robustbench_coded.reports.run.lookup import checkpoints_of, find, subjects_of
from robustbench_coded.reports.text.formatting import inference_text
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.summary import SummaryRow

THREAT = WHOLE_BATCH


def draw(rows: Sequence[SummaryRow]) -> Drawing | None:
    """A panel per checkpoint, a line per defence; None where every attack had the same eps."""
    ensembles = [
        row for row in rows if row.attack == "ensemble" and row.threat == THREAT and row.accuracy is not None
    ]
    spaces = [(row.budget.norm, row.budget.eps_space) for row in ensembles]
    space = max(spaces, key=spaces.count, default=None)
    ensembles = [row for row in ensembles if (row.budget.norm, row.budget.eps_space) == space]
    if space is None or len({row.budget.eps for row in ensembles}) < 2:
        return None
    found = checkpoints_of(ensembles)
    checkpoints = found[:MOST_PANELS]
    figure, axes = panels(len(checkpoints))
    methods = list(dict.fromkeys(s[1:] for s in subjects_of(ensembles)))
    for panel, checkpoint in zip(axes, checkpoints, strict=True):
        for subject in subjects_of(ensembles):
            if subject.checkpoint != checkpoint:
                continue
            curve = sorted((e for e in ensembles if e.subject == subject), key=lambda row: row.budget.eps)
            clean = find(rows, subject, "clean", THREAT, None)
            points = [(0.0, clean)] if clean is not None else []
            points += [(row.budget.eps, row) for row in curve]
            name = inference_text(subject, with_k=True)
            x = [eps for eps, _ in points]
            plot(panel, x, [row for _, row in points], methods.index(subject[1:]), name)
        panel.set_title(label(checkpoint))
        panel.set_xlabel(f"eps ({space[0]}, {space[1]})")
        percent_axis(panel)
    legend(figure, axes)
    caption = (
        f"Accuracy of the ensemble of all attacks under {THREAT}, with 95% intervals; at eps 0 clean inputs."
    ) + first_of(len(checkpoints), len(found), "checkpoints")
    return drawing(figure, "eps-curve", "Accuracy over eps", caption)
