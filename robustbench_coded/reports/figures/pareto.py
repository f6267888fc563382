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
from robustbench_coded.reports.lines import Line
from robustbench_coded.reports.words import budget_words, inference_words

THREAT = "batch/unknown"


def draw(lines: Sequence[Line]) -> Drawing | None:
    """The paper's attacks on the left, the ensemble of all on the right; None for fewer than two subjects."""
    budget = main_budget(lines)
    if budget is None:
        return None
    points = []
    for subject in subjects_of(lines):
        clean = find(lines, subject, "clean", THREAT, None)
        everything = find(lines, subject, "ensemble", THREAT, budget)
        if clean is not None and everything is not None:
            points.append((subject, clean, (lowest_of_papers(lines, subject, budget), everything)))
    if len(points) < 2:
        return None
    titles = ("lowest of FGSM, PGD-10, PGD-100", "ensemble of all attacks")
    figure, axes = panels(2, 3.6, across=2)
    methods = list(dict.fromkeys(subject[1:] for subject, _, _ in points))
    checkpoints = checkpoints_of(lines)
    for i, (panel, title) in enumerate(zip(axes, titles, strict=True)):
        for subject, clean, attacked in points:
            line = attacked[i]
            if line is None or clean.accuracy is None or clean.low is None or clean.high is None:
                continue
            beside = [[100 * (clean.accuracy - clean.low)], [100 * (clean.high - clean.accuracy)]]
            plot(
                panel,
                [100 * clean.accuracy],
                [line],
                methods.index(subject[1:]),
                f"{inference_words(subject, with_k=True)}, {subject.checkpoint}",
                xerr=beside,
                marker=MARKERS[checkpoints.index(subject.checkpoint) % len(MARKERS)],
                linestyle="none",
                elinewidth=0.8,
            )
        panel.set_title(title)
        panel.set_xlabel("clean accuracy, %")
        panel.set_ylim(-3, 103)
    axes[0].set_ylabel("accuracy under attack, %")
    legend(figure, axes, 2)
    caption = (
        f"Each point is a checkpoint (marker) behind a defence (colour), {budget_words(budget)}, {THREAT}, "
        "with 95% intervals. What falls from the left panel to the right was the attack's failure."
    )
    return drawing(figure, "clean-against-attacked", "Clean accuracy against accuracy under attack", caption)
