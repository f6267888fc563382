"""How figures look, and how they become bytes that are the same whenever they are drawn again."""

import io
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.text import escape
from robustbench_coded.runs.atomic import write_bytes

# Okabe and Ito's colours, told apart by the colour-blind; markers and dashes repeat what colour says.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH, COLUMN = 7.2, 3.3  # inches: a page's text, and a column of two, where letters keep their size
LABEL_WIDTH = 34
PANELS_ACROSS = 3
MOST_PANELS = 9
MOST_HEIGHT = 8.5  # inches, of panels one below the other
SVG_DPI = 72
PANELS_SHARE = 0.62  # of a figure's height, at least: legends and titles take the rest
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))

_RC = {
    "svg.hashsalt": "csrobust",
    "pdf.fonttype": 42,  # conferences refuse type 3
    "svg.fonttype": "none",  # texts that can be searched, smaller than their outlines
    "text.parse_math": False,  # a name may hold dollar signs
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "errorbar.capsize": 2,
    "lines.markersize": 4.5,
    "lines.linewidth": 1.4,
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        name: its file's name without ending.
        title: what it shows.
        caption: how to read it, in words.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    figure: Figure = field(repr=False, compare=False)

    def write(self, folder: Path) -> Path:
        """Writes NAME.svg, not synced to the disk: it can be drawn again. Returns its path."""
        path = folder / f"{self.name}.svg"
        write_bytes(path, self.svg, synced=False)
        return path


def styled(width: float = WIDTH) -> AbstractContextManager[None]:
    """Within it, figures look like ours, whatever the user's own settings, and are so many inches wide."""
    defaults: dict[Any, Any] = {**matplotlib.rcParamsDefault, **_RC, "figure.figsize": (width, width)}
    defaults.pop("backend", None)
    return matplotlib.rc_context(defaults)


def drawing(figure: Figure, name: str, title: str, caption: str) -> Drawing:
    """The figure as bytes without dates or versions in them."""
    svg = io.BytesIO()
    # savefig draws twice wherever there is a layout engine, "none" included: the layout is settled here, at
    # the resolution of an SVG, whose texts it measures.
    engine, resolution = figure.get_layout_engine(), figure.dpi
    if engine is not None:
        figure.dpi = SVG_DPI
        engine.execute(figure)
        shown = (axes.get_position() for axes in figure.axes if axes.get_visible())
        rows, height = {place.y0: place.height for place in shown}, figure.get_figheight()
        panels_height = height * sum(rows.values())
        if panels_height < PANELS_SHARE * height:
            figure.set_figheight((height - panels_height) / (1 - PANELS_SHARE))
            engine.execute(figure)
        figure.set_layout_engine(None)
        figure.dpi = resolution
    figure.savefig(svg, format="svg", metadata=NO_METADATA)
    return Drawing(name, title, caption, with_short_coordinates(svg.getvalue()), figure)


_COORDINATES = re.compile(rb' (?:d|x|y)="[^"]*"|translate\([^)]*\)')
_INDENTATION = re.compile(rb"\n +")
_LONG_NUMBER = re.compile(rb"-?\d+\.\d{3,}")


def with_short_coordinates(svg: bytes) -> bytes:
    """An SVG without indentation, with coordinates in hundredths of a point."""

    def short(number: re.Match[bytes]) -> bytes:
        return b"%.2f" % float(number.group())

    return _INDENTATION.sub(
        b"\n", _COORDINATES.sub(lambda place: _LONG_NUMBER.sub(short, place.group()), svg)
    )


def panels(count: int, height: float = 2.6, *, across: int = PANELS_ACROSS) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels that share their axes; as wide as a page where a column has no room."""
    narrow = matplotlib.rcParams["figure.figsize"][0] == COLUMN and count * height < MOST_HEIGHT
    columns = 1 if narrow else 2 if count == 4 else min(count, across)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(COLUMN if narrow else WIDTH, height * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def plot(
    axes: Axes, x: Sequence[float], rows: Sequence[SummaryRow], style: int, name: str, **more: Any
) -> None:
    """Accuracies of ``rows`` at ``x`` with their intervals, in the ``style``-th colour and marker."""
    places, accuracies, bars = with_bars(x, rows)
    axes.errorbar(places, accuracies, yerr=bars, **{**style_of(style, name), **more})


def with_bars(
    at: Sequence[float], rows: Sequence[SummaryRow]
) -> tuple[list[float], list[float], list[list[float]]]:
    """Of the rows with outcomes: their places, accuracies in percent, as attacked, and bars below and above,
    of length 0 where such an accuracy has no interval.
    """
    shown = []
    for place, row in zip(at, rows, strict=True):
        if (ci := row.interval) is not None:
            attacked = ci.as_attacked
            low, high = (ci.low, ci.high) if ci.kind and ci.own is None else (attacked, attacked)
            shown.append((place, 100 * attacked, 100 * low, 100 * high))
    below = [max(accuracy - low, 0.0) for _, accuracy, low, _ in shown]
    above = [max(high - accuracy, 0.0) for _, accuracy, _, high in shown]
    return [place for place, *_ in shown], [accuracy for _, accuracy, *_ in shown], [below, above]


def style_of(style: int, name: str) -> dict[str, Any]:
    """The ``style``-th colour and marker, and the name in the legend."""
    marker = MARKERS[(style + style // len(COLOURS)) % len(MARKERS)]
    return {"color": COLOURS[style % len(COLOURS)], "marker": marker, "label": label(name)}


def legend(figure: Figure, axes: Sequence[Axes], columns: int = 3) -> None:
    """One legend above all panels, names on the outer axes alone; what several panels show is named once.

    Args:
        columns: at most; fewer where long names would not fit the figure's width.
    """
    for panel in axes:
        panel.label_outer()
    entries: dict[str, Any] = {}
    for panel in axes:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            # The marker alone: the bars of an interval hide it at this size.
            entries.setdefault(name, handle[0] if isinstance(handle, ErrorbarContainer) else handle)
    for count in range(columns, 0, -1):
        drawn = figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=count)
        if count == 1 or drawn.get_window_extent().width <= figure.bbox.width:
            return
        drawn.remove()


def first_of(shown: int, all_of_them: int, what: str) -> str:
    """The end of a caption where a figure has no place for all; empty where it shows them."""
    return f" The first {shown} of {all_of_them} {what} are shown." if shown < all_of_them else ""


def logarithmic_y(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5 times each power of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()


def percent_axis(axes: Axes) -> None:
    """The y axis as percentages from 0 to 100."""
    axes.set_ylim(-3, 103)
    axes.set_ylabel("accuracy, %")


def label(text: str, width: int = LABEL_WIDTH) -> str:
    """A name that fits; letters that the font lacks are named by their number."""
    shown = (c if ord(c) < 0x250 or c in "…†" else f"U+{ord(c):04X}" for c in escape.one_line(text))
    return escape.shortened("".join(shown), width)
