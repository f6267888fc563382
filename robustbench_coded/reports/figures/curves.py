"""The figures of a run: the rows of the first screen; accuracies over eps and over batch sizes; and what each
attacker leaves, from one who knows nothing to one who knows the draw.
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
    papers_attack,
    parsed_attack,
    perturbation_text,
    pixels,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import CLEAN, CONTROLS, ENSEMBLE, RANDOM_SIGN

ROW_HEIGHT = 0.3  # inches
LETTERS = 9  # points
RIGHT = 40  # letters beside a row
INK = "#24292f"
HOLLOW: dict[str, Any] = {"fillstyle": "none", "clip_on": False}
ANSWER_TITLE = "Robust accuracy"
ANSWER_CAPTION = (
    "Robust accuracy with its 95% interval, that of the base model, and the accuracy up to which a "
    "defence is broken."
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
    """A dot with its interval for each row, a tick at the accuracy up to which it is broken, and the base
    model as a diamond; the caller draws the legend.
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
            (row.chance, "|", "broken up to", {"color": style.COLOURS[1], "markersize": 11}),
        ]
        for share, marker, meaning, look in marks:
            if share is not None:
                axes.plot([100 * share], [place], marker, label=first * meaning, **look)
        verdict = table.rows[place][table.heads.index("Verdict")].partition(":")[0]
        text = f"{row.robust.text.partition(' (in')[0]}  {verdict}"
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
                if cell is not None and column.attack in (CLEAN, ENSEMBLE):
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
    over_eps = "under all attacks together (at eps 0 unperturbed)"
    over_sizes = (
        "as attacked, in the batches that the attacker made, and of the same inputs in random batches"
    )
    caption = f"Accuracy {over_eps if name != SIZES[0] else over_sizes}, with the intervals of the tables."
    title = f"Accuracy against {axis.partition(' (')[0].removesuffix(' K').removesuffix(' in 1/255')}"
    return style.drawing(figure, name, title, caption + style.first_of(len(shown), len(swept), "panels"))


# What an attacker knows, from the top: nothing, predictions, the base model, draws like those of the defence,
# and the draw itself.
_CONTROLS = {CLEAN: "clean", RANDOM_SIGN: "nothing (random signs)"}
_KINDS = {
    "answers": "predictions alone",
    "transfer": "base model alone",
    "fixed": "one surrogate draw",
    "bpda": "base model's gradients",
    "fgsm": "FGSM",
    "pgd-10": "PGD-10",
    "pgd-100": "PGD-100",
    "fresh": "other gradients",
    "averaged": "averaged draws",
    "aware": "known draw",
    "package": "other packages",
}
_ONE_VICTIM = "transfer, one victim"
_ENSEMBLES = {
    WHOLE_BATCH: "all attacks",
    ThreatModel("batch", "known"): "all attacks, known draw",
    ThreatModel("victim", "unknown"): "all attacks, one victim",
}
_ORDER = (*_CONTROLS.values(), *_KINDS.values(), _ONE_VICTIM, *_ENSEMBLES.values())
RUNG_HEIGHT = 0.2  # inches
PANELS_ACROSS = 2


def draw_ladder(rows: Sequence[SummaryRow]) -> style.Drawing | None:
    """A panel per checkpoint, a dot per defence and rung; None without an attack."""
    perturbation = tables.main_perturbation(rows)
    if perturbation is None:
        return None
    rungs = {subject: _rungs(rows, subject, perturbation) for subject in tables.subjects_of(rows)}
    names = sorted({name for points in rungs.values() for name in points}, key=_ORDER.index)
    checkpoints = list(dict.fromkeys(subject.checkpoint for subject in rungs))
    shown = checkpoints[: style.MOST_PANELS]
    across = min(PANELS_ACROSS, len(shown))
    figure, axes = style.panels(len(shown), 0.7 + RUNG_HEIGHT * len(names), across=across)
    methods = list(dict.fromkeys(subject.inference for subject in rungs))
    for panel, checkpoint in zip(axes, shown, strict=True):
        for subject, points in rungs.items():
            if subject.checkpoint == checkpoint:
                _dots(panel, points, names, methods.index(subject.inference), len(methods), subject)
        panel.set_title(style.label(checkpoint))
        panel.set_yticks(range(len(names)), names, fontsize=8)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_xlim(-3, 103)
        panel.set_xlabel("accuracy, %")
    style.legend(figure, axes)
    caption = (
        f"Accuracy under the strongest attack of each kind, {perturbation_text(perturbation)}, from an "
        "attacker who knows nothing to one who knows the defence's draw, and under all attacks together, "
        "which decides the verdict."
    ) + style.first_of(len(shown), len(checkpoints), "checkpoints")
    return style.drawing(figure, "ladder", "Accuracy by what the attacker knows", caption)


def _dots(
    panel: Axes,
    points: dict[str, SummaryRow],
    names: Sequence[str],
    number: int,
    styles: int,
    subject: Subject,
) -> None:
    """One subject's accuracies; subjects of one rung stand a little apart."""
    apart = 0.6 / styles * (number - (styles - 1) / 2)
    rungs = sorted(((names.index(name), row) for name, row in points.items()), key=lambda pair: pair[0])
    places, accuracies, bars = style.with_bars([rung + apart for rung, _ in rungs], [row for _, row in rungs])
    look = style.style_of(number, inference_text(subject, with_k=True))
    panel.errorbar(accuracies, places, xerr=bars, **{**look, "linestyle": "none"})


def _rungs(rows: Sequence[SummaryRow], subject: Subject, perturbation: Perturbation) -> dict[str, SummaryRow]:
    """The lowest row of each rung."""
    points: dict[str, SummaryRow] = {}
    for row in rows:
        under = row.attack == CLEAN or row.perturbation == perturbation
        if row.subject == subject and under and row.accuracy is not None and (name := _rung(row)):
            points[name] = min(points.get(name, row), row, key=lambda r: r.accuracy or 0.0)
    return points


def _rung(row: SummaryRow) -> str | None:
    """The rung of a row; None for those that have no place in the figure."""
    if row.attack == ENSEMBLE:
        return _ENSEMBLES.get(row.threat)
    if row.attack in CONTROLS:
        return _CONTROLS[row.attack] if row.threat == WHOLE_BATCH else None
    name = parsed_attack(row.attack)
    if name is None or name.knows == "submitted":
        return None
    if row.threat.inputs != "batch":
        return _ONE_VICTIM if row.threat.inputs == "victim" and name.knows == "transfer" else None
    if (papers := papers_attack(row.attack)) is not None:
        return _KINDS[papers]
    if name.package is not None:
        return _KINDS["package"]
    if name.declared.asks_answers_alone:
        return _KINDS["answers"]
    if name.draws > 1 and name.knows == "fresh":
        return _KINDS["averaged"]
    return _KINDS.get(name.knows, "other gradients")
