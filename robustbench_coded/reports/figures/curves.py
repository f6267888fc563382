"""The figures of a run: the rows of the first screen; accuracies over eps and over batch sizes; and those of
a table by attack.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.compare.batch_sizes import QUESTION, Sweep
from robustbench_coded.reports.figures import style
from robustbench_coded.reports.run import tables
from robustbench_coded.reports.run.verdict_tables import NAMES, Row, shown_rows
from robustbench_coded.reports.text.formatting import (
    inference_text,
    pixels,
)
from robustbench_coded.schema.words import CLEAN, ENSEMBLE

ROW_HEIGHT = 0.3  # inches
LETTERS = 9  # points
RIGHT = 40  # letters beside a row
INK = "#24292f"
HOLLOW: dict[str, Any] = {"fillstyle": "none", "clip_on": False}
ANSWER_TITLE = "Robust accuracy"
ANSWER_CAPTION = (
    "Robust accuracy with its 95% interval (re-batched where a batch is answered together), that of the base "
    "model, and the chance threshold, up to which a defence is broken."
)


def draw_answer(rows: Sequence[Row]) -> style.Drawing | None:
    """The rows of the first screen; None where nothing was judged."""
    if not rows:
        return None
    figure = Figure(figsize=answer_size(rows), layout="constrained")
    draw_rows(figure.subplots(), rows)
    figure.legend(loc="outside upper left", ncols=3, fontsize=LETTERS)
    return style.drawing(figure, "answer", ANSWER_TITLE, ANSWER_CAPTION)


def answer_size(rows: Sequence[Row]) -> tuple[float, float]:
    """Width and height in inches."""
    return style.WIDTH, ROW_HEIGHT * len(rows) + 0.9


def draw_rows(axes: Axes, rows: Sequence[Row]) -> None:
    """A dot with its interval for each row, a tick at the chance threshold, and the base model as a
    diamond; the caller draws the legend.
    """
    table, _ = shown_rows(rows)
    names = [place for place, head in enumerate(table.heads) if head in NAMES and head != "Images"]
    named = [[(table.heads[place], texts[place]) for place in names if texts[place]] for texts in table.rows]
    said = [[f"{head} {text}" if head in ("K", "Eps") else text for head, text in texts] for texts in named]
    for place, row in enumerate(rows):
        first = place == 0  # whose marks the legend names
        if row.robust is None:
            continue
        if row.robust.low is not None and row.robust.high is not None:
            ends = [100 * row.robust.low, 100 * row.robust.high]
            axes.plot(ends, [place, place], "-", color=style.COLOURS[0], linewidth=2, clip_on=False)
        marks = [
            (row.robust.estimate, "o", "robust accuracy", {"color": style.COLOURS[0], "clip_on": False}),
            (row.bare and row.bare.estimate, "D", "base model", {"color": INK, **HOLLOW}),
            (row.chance, "|", "chance threshold", {"color": style.COLOURS[1], "markersize": 11}),
        ]
        for share, marker, meaning, look in marks:
            if share is not None:
                axes.plot([100 * share], [place], marker, label=first * meaning, **look)
        verdict = table.rows[place][table.heads.index("Verdict")].partition(":")[0]
        text = f"{row.robust.text}  {verdict}"
        axes.text(102, place, style.label(text, RIGHT), va="center", fontsize=LETTERS)
    axes.set_yticks(range(len(rows)), [style.label(", ".join(texts)) for texts in said], fontsize=LETTERS)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-1, 101)
    axes.set_xticks(range(0, 101, 20))
    axes.tick_params(left=False, labelsize=LETTERS)
    axes.set_xlabel("accuracy, %", fontsize=LETTERS)


Panels = dict[str, dict[str, dict[float, SummaryRow]]]  # title -> line -> place on the axis -> row
SIZES = ("batch-sizes", "batch size K")


def draw_curves(shown: Iterable[tables.Table], sweeps: Iterable[Sweep]) -> Iterator[style.Drawing | None]:
    """Accuracies over batch sizes and, for each norm, over the eps of the tables; None for fewer than two."""
    figures: dict[tuple[str, str], Panels] = {}
    for table in shown:
        if "K" in table.heads:
            continue
        eps, over, norm = *pixels(table.perturbation.eps).partition("/255")[:2], table.perturbation.norm
        budget = (f"eps-{norm}", f"eps{over and ' in 1/255'} ({norm}, {table.perturbation.eps_space})")
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell.line and column.attack in (CLEAN, ENSEMBLE):
                    lines = figures.setdefault(budget, {}).setdefault(row.subject.checkpoint, {})
                    at = float(column.attack != CLEAN and eps)
                    lines.setdefault(inference_text(row.subject, with_k=True), {})[at] = cell.line
    sizes: Panels = {
        sweep.title.removeprefix(QUESTION).replace(", ", "\n", 1): {
            name: {float(row.subject.k or 0): row for row in rows} for name, rows in sweep.curves.items()
        }
        for sweep in sweeps
    }
    for figure, panels in {**figures, SIZES: sizes}.items():
        yield _curves(panels, *figure)


def _curves(panels: Panels, name: str, axis: str) -> style.Drawing | None:
    """A panel each; None where no panel has two places beside 0."""
    places = {panel: sorted({at for line in panels[panel].values() for at in line}) for panel in panels}
    swept = [panel for panel in panels if len([at for at in places[panel] if at]) > 1]
    if not swept:
        return None
    shown = swept[: style.MOST_PANELS]
    lines = list(dict.fromkeys(line for panel in shown for line in panels[panel]))
    figure, axes = style.panels(len(shown), 3.0)
    for drawn, panel in zip(axes, shown, strict=True):
        for line, rows in panels[panel].items():
            style.plot(drawn, sorted(rows), [rows[at] for at in sorted(rows)], lines.index(line), line)
        drawn.set_title("\n".join(map(style.label, panel.split("\n"))))
        drawn.set_xlabel(axis)
        if name == SIZES[0]:
            drawn.set_xscale("log", base=2)
            drawn.set_xticks(places[panel], [f"{size:g}" for size in places[panel]])
            drawn.minorticks_off()
        style.percent_axis(drawn)
    style.legend(figure, axes)
    over_eps = "in the worst case, as attacked (at eps 0 unperturbed)"
    over_sizes = (
        "as attacked, in the batches that the attacker made, and of the same inputs in random batches"
    )
    caption = f"Accuracy {over_eps if name != SIZES[0] else over_sizes}, with the intervals of the tables."
    title = f"Accuracy against {axis.partition(' (')[0].removesuffix(' K').removesuffix(' in 1/255')}"
    return style.drawing(figure, name, title, caption + style.first_of(len(shown), len(swept), "panels"))


ROW_OF_ATTACK = 0.2  # inches
PANELS_ACROSS = 2


def draw_attacks(table: tables.Table) -> style.Drawing | None:
    """The cells of a table: a panel per checkpoint, a row per attack, a dot per defence; None for fewer than
    two defences, of which the table says as much.
    """
    methods = list(dict.fromkeys(row.subject.inference for row in table.rows))
    if len(methods) < 2:
        return None
    panels: dict[str, list[tables.TableRow]] = {}
    for row in table.rows:
        panels.setdefault(row.subject.checkpoint, []).append(row)
    shown = list(panels)[: style.MOST_PANELS]
    height = 0.7 + ROW_OF_ATTACK * len(table.columns)
    figure, axes = style.panels(len(shown), height, across=min(PANELS_ACROSS, len(shown)))
    for panel, checkpoint in zip(axes, shown, strict=True):
        for row in panels[checkpoint]:
            number = methods.index(row.subject.inference)
            apart = 0.6 / len(methods) * (number - (len(methods) - 1) / 2)  # dots of one attack
            lines = [(place + apart, cell.line) for place, cell in enumerate(row.cells) if cell.line]
            places, accuracies, bars = style.with_bars([at for at, _ in lines], [line for _, line in lines])
            look = style.style_of(number, inference_text(row.subject, with_k=True))
            panel.errorbar(accuracies, places, xerr=bars, **{**look, "linestyle": "none"})
        panel.set_title(style.label(checkpoint))
        panel.set_yticks(range(len(table.columns)), [c.title for c in table.columns], fontsize=8)
        panel.set_ylim(len(table.columns) - 0.5, -0.5)
        panel.set_xlim(-3, 103)
        panel.set_xlabel("accuracy, %")
    style.legend(figure, axes)
    caption = f"{table.title}, as attacked." + style.first_of(len(shown), len(panels), "checkpoints")
    return style.drawing(figure, "attacks", "Accuracy by attack", caption)
