"""The figures of a run: the answer of the first screen, beside the base model; curves over eps and batch
size (Table 10 of arXiv 2510.00253).
"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.figures import style
from robustbench_coded.reports.run import tables
from robustbench_coded.reports.run.opening import ALL_ATTACKS, Opening, Span
from robustbench_coded.reports.text.formatting import inference_text, is_submitted, perturbation_text
from robustbench_coded.schema.case import WHOLE_BATCH

ROW_HEIGHT = 0.6  # inches
PERCENT_A_LETTER = 1.5  # of the axis of accuracies, at the size of LETTERS
LETTERS = 10  # points; a phone shows them at three quarters of that, and at 8 they could not be read
INK = "#24292f"
GREY = "#8a8f98"
ANSWER_TITLE = "Clean and robust accuracy"
ANSWER_CAPTION = (
    "Accuracy with 95% intervals: unperturbed, under the strongest of FGSM, PGD-10 and PGD-100, and under "
    "the ensemble of all attacks (shaded), which decides the verdict. For several settings, thick lines span "
    "the lowest to the highest, and thin lines span their intervals, by kind. "
    "Vertical lines: the base model under its own attacks."
)


def draw_answer(opening: Opening) -> style.Drawing | None:
    """Accuracies of the defence beside those of its base model; None where nothing was judged."""
    if not opening.bars:
        return None
    figure = Figure(figsize=answer_size(opening), layout="constrained")
    draw_bars(figure.subplots(), opening)
    figure.legend(loc="outside upper left", ncols=2, fontsize=LETTERS)
    return style.drawing(figure, "answer", ANSWER_TITLE, ANSWER_CAPTION)


def answer_size(opening: Opening) -> tuple[float, float]:
    """Width and height in inches."""
    return style.WIDTH, ROW_HEIGHT * len(opening.bars) + 0.9


def draw_bars(axes: Axes, opening: Opening) -> None:
    """Points of the answer by accuracy, of which there is at least one; the caller draws the legend."""
    groups = sorted(opening.bars, key=lambda group: -group.settings.most)
    for place, group in enumerate(groups):
        if group.label == ALL_ATTACKS:
            axes.axhspan(place - 0.5, place + 0.5, color=GREY, alpha=0.15, linewidth=0)
        _draw_span(axes, place, group.settings)
        if group.bare:
            ends = [100 * group.bare.least, 100 * group.bare.most]
            axes.vlines(ends, place - 0.42, place + 0.42, color=GREY, linewidth=2)
            low, high = ends
            axes.fill_betweenx([place - 0.42, place + 0.42], low, high, color=GREY, alpha=0.3, linewidth=0)
    axes.plot([], [], "o-", color=style.COLOURS[0], linewidth=4, label=style.label(opening.settings))
    if any(group.bare for group in groups):
        axes.plot([], [], "|", color=GREY, markersize=12, markeredgewidth=2, label=style.label(opening.bare))
    axes.set_yticks(range(len(groups)), [group.label for group in groups], fontsize=LETTERS)
    for group, tick in zip(groups, axes.get_yticklabels(), strict=True):
        tick.set_fontweight("bold" if group.label == ALL_ATTACKS else "normal")
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlim(-1, 101)
    axes.set_xticks(range(0, 101, 20))
    axes.tick_params(left=False, labelsize=LETTERS)
    axes.set_xlabel("accuracy, %", fontsize=LETTERS)
    axes.grid(False, axis="y")


def _draw_span(axes: Axes, place: float, span: Span) -> None:
    """The lowest and the highest accuracy, the interval of a single one, and the figures above them."""
    ends = [100 * span.least, 100 * span.most]
    lowest, highest = ends
    if span.single is not None and span.single.kind is not None:
        lowest, highest = 100 * span.single.low, 100 * span.single.high
        middle, half = (lowest + highest) / 2, (highest - lowest) / 2
        axes.errorbar([middle], [place], xerr=half, color=INK, linewidth=1, capsize=3)
    axes.plot(ends, [place, place], "o-", color=style.COLOURS[0], linewidth=4, markersize=7, clip_on=False)
    # Beside the smaller part of the axis, but never over the names to the left of it.
    if sum(ends) > 100 and lowest > PERCENT_A_LETTER * len(str(span)):
        axes.text(lowest - 2, place, str(span), va="center", ha="right", fontsize=LETTERS)
    else:
        axes.text(highest + 2, place, str(span), va="center", ha="left", fontsize=LETTERS)


THREAT = WHOLE_BATCH


def draw_eps(rows: Sequence[SummaryRow]) -> style.Drawing | None:
    """A panel per checkpoint, a line per defence; None where every attack had the same eps."""
    ensembles = [
        row for row in rows if row.attack == "ensemble" and row.threat == THREAT and row.accuracy is not None
    ]
    spaces = [(row.perturbation.norm, row.perturbation.eps_space) for row in ensembles]
    space = max(spaces, key=spaces.count, default=None)
    ensembles = [row for row in ensembles if (row.perturbation.norm, row.perturbation.eps_space) == space]
    if space is None or len({row.perturbation.eps for row in ensembles}) < 2:
        return None
    panels: dict[str, Lines] = {}
    for subject in tables.subjects_of(ensembles):
        clean = tables.find(rows, subject, "clean", THREAT, None)
        points = {row.perturbation.eps: row for row in ensembles if row.subject == subject}
        points |= {} if clean is None else {0.0: clean}
        panels.setdefault(subject.checkpoint, {})[inference_text(subject, with_k=True)] = points
    caption = f"Accuracy of the ensemble of all attacks under {THREAT}; at eps 0 clean inputs."
    drawn = _curves(panels, f"eps ({space[0]}, {space[1]})")
    return style.drawing(drawn, "eps-curve", "Accuracy over eps", _of_shown(caption, panels, "checkpoints"))


def draw_batch_sizes(rows: Sequence[SummaryRow]) -> style.Drawing | None:
    """A panel per swept defence, a line per attack; None where each defence had one batch size."""
    perturbation = tables.main_perturbation(rows)
    swept: dict[tuple[str, str], list[SummaryRow]] = {}
    for row in rows:
        usable = row.accuracy is not None and row.subject.k is not None
        if usable and row.threat == THREAT and row.attack != "strongest":
            swept.setdefault((row.subject.checkpoint, row.subject.defence), []).append(row)
    swept = {pair: group for pair, group in swept.items() if len({row.subject.k for row in group}) > 1}
    if perturbation is None or not swept:
        return None
    panels: dict[str, Lines] = {}
    for group in swept.values():
        first = group[0].subject
        lines = panels.setdefault(f"{inference_text(first.at_any_size, with_k=True)}\n{first.checkpoint}", {})
        lines |= {_line(row): {} for row in group}
        # Of inputs perturbed elsewhere the line has the lowest at each size.
        for row in sorted(group, key=lambda row: -(row.accuracy or 0.0)):
            if row.attack == "clean" or row.perturbation == perturbation:
                lines[_line(row)][row.subject.k or 0] = row
    caption = f"Accuracy under each attack ({THREAT}, {perturbation_text(perturbation)})."
    drawn = _curves(panels, "batch size K", 3.0)
    for panel, lines in zip(drawn.axes, panels.values(), strict=False):
        sizes = sorted({k for points in lines.values() for k in points})
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [str(k) for k in sizes])
        panel.minorticks_off()
    title = "Accuracy against batch size"
    return style.drawing(drawn, "batch-sizes", title, _of_shown(caption, panels, "subjects"))


Lines = dict[str, dict[float, SummaryRow]]  # by name: the rows of a line by their place on the axis


def _curves(panels: Mapping[str, Lines], axis: str, *height: float) -> Figure:
    """A panel each, titled by its key, of the first ones."""
    shown = dict(list(panels.items())[: style.MOST_PANELS])
    figure, axes = style.panels(len(shown), *height)
    names = list(dict.fromkeys(name for lines in shown.values() for name in lines))
    for panel, (title, lines) in zip(axes, shown.items(), strict=True):
        for name in sorted(lines, key=names.index):
            places = sorted(lines[name])
            dashes = "--" if name.startswith("ensemble") else "-"
            points = [lines[name][place] for place in places]
            style.plot(panel, places, points, names.index(name), name, linestyle=dashes)
        panel.set_title("\n".join(style.label(line, style.TITLE_WIDTH) for line in title.split("\n")))
        panel.set_xlabel(axis)
        style.percent_axis(panel)
    style.legend(figure, axes)
    return figure


def _of_shown(caption: str, panels: Mapping[str, Lines], what: str) -> str:
    more = style.first_of(min(len(panels), style.MOST_PANELS), len(panels), what)
    return f"{caption} {style.INTERVALS}{more}"


def _line(row: SummaryRow) -> str:
    return tables.SUBMITTED if is_submitted(row.attack) else row.attack
