"""Clean accuracy against accuracy under attack, for every defence of a run."""

from collections.abc import Sequence

from robustbench_coded.reports.figures.lookup import (
    checkpoints_of,
    find,
    lowest_of_papers,
    main_budget,
    subjects_of,
)
from robustbench_coded.reports.figures.style import MARKERS, Drawing, drawing, legend, panels, plot
from robustbench_coded.reports.text.formatting import budget_text, inference_text
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.summary import SummaryRow

THREAT = WHOLE_BATCH
# A subject, its clean line, and its lines under the paper's attacks and under all of them.
Point = tuple[SubjectKey, SummaryRow, tuple[SummaryRow | None, SummaryRow]]


def draw(rows: Sequence[SummaryRow]) -> Drawing | None:
    """The paper's attacks on the left, the ensemble of all on the right; None for fewer than two subjects."""
    budget = main_budget(rows)
    if budget is None:
        return None
    points: list[Point] = []
    for subject in subjects_of(rows):
        clean = find(rows, subject, "clean", THREAT, None)
        everything = find(rows, subject, "ensemble", THREAT, budget)
        if clean is not None and everything is not None:
            points.append((subject, clean, (lowest_of_papers(rows, subject, budget), everything)))
    if len(points) < 2:
        return None
    titles = ("lowest of FGSM, PGD-10, PGD-100", "ensemble of all attacks")
    figure, axes = panels(2, 3.6, across=2)
    methods = list(dict.fromkeys(subject[1:] for subject, _, _ in points))
    checkpoints = checkpoints_of(rows)
    top = 10.0
    for i, (panel, title) in enumerate(zip(axes, titles, strict=True)):
        for subject, clean, attacked in points:
            row = attacked[i]
            if row is None or clean.accuracy is None or clean.low is None or clean.high is None:
                continue
            top = max(top, 100 * (row.high or 0.0))
            beside = [[100 * (clean.accuracy - clean.low)], [100 * (clean.high - clean.accuracy)]]
            plot(
                panel,
                [100 * clean.accuracy],
                [row],
                methods.index(subject[1:]),
                f"{inference_text(subject, with_k=True)}, {subject.checkpoint}",
                xerr=beside,
                marker=MARKERS[checkpoints.index(subject.checkpoint) % len(MARKERS)],
                linestyle="none",
                elinewidth=0.8,
            )
        for family in _families(points):
            joined = [(clean.accuracy, row.accuracy) for _, clean, found in family if (row := found[i])]
            x, y = ([100 * (pair[axis] or 0.0) for pair in joined] for axis in (0, 1))
            panel.plot(x, y, color="0.6", linewidth=0.8, zorder=1)
        panel.set_title(title)
        panel.set_xlabel("clean accuracy, %")
    axes[0].set_ylim(-0.03 * top, 1.05 * top)
    axes[0].set_ylabel("accuracy under attack, %")
    legend(figure, axes, 2)
    caption = (
        f"Each point is a checkpoint (marker) behind a defence (colour), {budget_text(budget)}, {THREAT}, "
        "with 95% intervals; a grey line joins the sizes and options of one defence. Accuracy that is lost "
        "from the left panel to the right was due to weak attacks."
    )
    return drawing(figure, "clean-against-attacked", "Clean accuracy against accuracy under attack", caption)


def _families(points: Sequence[Point]) -> list[list[Point]]:
    """Points of one checkpoint behind one kind of defence: over N, K and options such as averaged draws."""
    found: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        kind = point[0].defence.partition("[")[0]
        found.setdefault((point[0].checkpoint, kind), []).append(point)
    return [sorted(family, key=lambda point: point[1].accuracy or 0.0) for family in found.values()]
