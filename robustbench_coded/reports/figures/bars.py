"""The bars of the first screen: the answer beside no defence."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_coded.reports.figures import style
from robustbench_coded.reports.run.opening import Opening, Span

BAR_WIDTH, GROUP_HEIGHT = 5.4, 0.62  # inches; narrow, so that a telephone shows it at a size that can be read
BAR = 0.36
LETTER = 0.018  # of the width, for the numbers behind the bars
LINE = "#24292f"
GREY = "#8a8f98"
TITLE = "What is left under attack"
CAPTION = (
    "Accuracy on the evaluated images with 95% intervals: unperturbed, under the strongest of FGSM, PGD-10 "
    "and PGD-100, and under all attacks together. Of several settings, the bar ends at the highest, its dark "
    "part at the lowest, and the line spans all of their intervals."
)


def draw_answer(opening: Opening) -> style.Drawing | None:
    """Groups of two bars, the defence over no defence; None where nothing was judged."""
    groups = opening.bars
    if not groups:
        return None
    figure = Figure(figsize=(BAR_WIDTH, GROUP_HEIGHT * len(groups) + 0.5), layout="constrained")
    axes = figure.subplots()
    both = any(group.bare for group in groups)
    for place, group in enumerate(groups):
        shift = BAR / 2 if both else 0.0
        _bar(axes, place - shift, group.settings, style.COLOURS[1])
        if group.bare:
            _bar(axes, place + shift, group.bare, GREY)
    names = [opening.settings, *([opening.bare] if both else [])]
    for name, colour in zip(names, (style.COLOURS[1], GREY), strict=False):
        axes.barh([0], [0], color=colour, label=style.label(name))
    axes.set_yticks(range(len(groups)), [group.label for group in groups], fontsize=10)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    widest = max(len(str(kept)) for group in groups for kept in (group.settings, group.bare) if kept)
    axes.set_xlim(0, 100 / (1 - LETTER * (widest + 2)))
    axes.tick_params(bottom=False, labelbottom=False, left=False)
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, fontsize=10)
    return style.drawing(figure, "answer", TITLE, CAPTION)


def _bar(axes: Axes, place: float, kept: Span, colour: str) -> None:
    """From 0 to the least that is kept, paler on to the most, a line over the intervals, and the figures."""
    least, most, low, high = (100 * value for value in kept)
    axes.barh([place], [most], BAR, color=colour, alpha=0.45)
    axes.barh([place], [least], BAR, color=colour)
    axes.errorbar([most], [place], xerr=[[most - low], [high - most]], color=LINE, linewidth=1, capsize=2)
    axes.text(max(high, most) + 2, place, str(kept), va="center", fontsize=10)
