"""Three bars: clean accuracy, the paper's strongest attack and the strongest found, beside no defence."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_coded.reports.figures.style import COLOURS, Drawing, drawing, label
from robustbench_coded.reports.run.opening import Opening, spread

WIDTH, GROUP_HEIGHT = 4.8, 0.62  # inches; narrow, so that a telephone shows it at a size that can be read
BAR = 0.36
ROOM = 132  # percent across: numbers stand behind the bars
GREY = "#8a8f98"
TITLE = "What is left under attack"
CAPTION = (
    "Accuracy on the evaluated images: unperturbed, under the strongest of FGSM, PGD-10 and PGD-100, and "
    "under all attacks together. Of several settings, the bar ends at the highest and its dark part at the "
    "lowest."
)


def draw(opening: Opening) -> Drawing | None:
    """Groups of two bars, the defence over no defence; None where nothing was judged."""
    groups = opening.bars
    if not groups:
        return None
    figure = Figure(figsize=(WIDTH, GROUP_HEIGHT * len(groups) + 0.5), layout="constrained")
    axes = figure.subplots()
    both = any(group.bare for group in groups)
    for place, group in enumerate(groups):
        shift = BAR / 2 if both else 0.0
        _bar(axes, place - shift, group.settings, COLOURS[1])
        if group.bare:
            _bar(axes, place + shift, group.bare, GREY)
    names = [opening.settings, *([opening.bare] if both else [])]
    for name, colour in zip(names, (COLOURS[1], GREY), strict=False):
        axes.barh([0], [0], color=colour, label=label(name))
    axes.set_yticks(range(len(groups)), [group.label for group in groups], fontsize=10)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlim(0, ROOM)
    axes.tick_params(bottom=False, labelbottom=False, left=False)
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, fontsize=10)
    return drawing(figure, "answer", TITLE, CAPTION)


def _bar(axes: Axes, place: float, accuracies: Sequence[float], colour: str) -> None:
    """From 0 to the lowest accuracy, paler on to the highest, and both as a number behind it."""
    low, high = 100 * min(accuracies), 100 * max(accuracies)
    axes.barh([place], [high], BAR, color=colour, alpha=0.45)
    axes.barh([place], [low], BAR, color=colour)
    axes.text(high + 1.5, place, spread(accuracies), va="center", fontsize=10)
