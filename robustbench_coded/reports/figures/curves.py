"""The figures of a run: the rows of the first screen, and what each attacker leaves, from one who knows
nothing to one who knows the draw.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.figures import style
from robustbench_coded.reports.run.tables import checkpoints_of, main_perturbation, subjects_of
from robustbench_coded.reports.run.verdict_tables import NAMES, Row, shown_rows
from robustbench_coded.reports.text.formatting import (
    inference_text,
    papers_attack,
    parsed_attack,
    perturbation_text,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import CLEAN, CONTROLS, ENSEMBLE, RANDOM_SIGN

ROW_HEIGHT = 0.3  # inches
LETTERS = 9  # points
RIGHT = 40  # letters beside a row
INK = "#24292f"
ANSWER_TITLE = "Robust accuracy"
ANSWER_CAPTION = (
    "Robust accuracy with its 95% interval, that of the base model, and the chance level, up to which a "
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
    """A dot with its interval for each row, the chance level as a tick and the base model as a diamond; the
    caller draws the legend.
    """
    table, _ = shown_rows(rows)
    names = [place for place, head in enumerate(table.heads) if head in NAMES and head != "Images"]
    labels = [", ".join(filter(None, (texts[place] for place in names))) for texts in table.rows]
    for place, row in enumerate(rows):
        first = place == 0  # whose marks the legend names
        if row.robust is None:
            continue
        middle = 100 * row.robust.estimate
        if row.robust.low is not None and row.robust.high is not None:
            ends = [100 * row.robust.low, 100 * row.robust.high]
            axes.plot(ends, [place, place], "-", color=style.COLOURS[0], linewidth=2, clip_on=False)
        axes.plot(
            [middle], [place], "o", color=style.COLOURS[0], clip_on=False, label=first * "robust accuracy"
        )
        if row.bare is not None:
            bare = [100 * row.bare.estimate]
            axes.plot(
                bare, [place], "D", color=INK, fillstyle="none", clip_on=False, label=first * "base model"
            )
        axes.plot(
            [100 * row.chance],
            [place],
            "|",
            color=style.COLOURS[1],
            markersize=11,
            label=first * "chance level",
        )
        verdict = table.rows[place][table.heads.index("Verdict")].partition(":")[0]
        text = f"{row.robust.text.partition(' (in')[0]}  {verdict}"
        axes.text(102, place, style.label(text, RIGHT), va="center", fontsize=LETTERS)
    axes.set_yticks(range(len(rows)), [style.label(label) for label in labels], fontsize=LETTERS)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-1, 101)
    axes.set_xticks(range(0, 101, 20))
    axes.tick_params(left=False, labelsize=LETTERS)
    axes.set_xlabel("accuracy, %", fontsize=LETTERS)


_KINDS = {
    "surrogate": "predictions alone",
    "transfer": "base model alone",
    "fixed": "one surrogate draw",
    "bpda": "base model's gradients",
    "fresh": "other gradients",
    "averaged": "averaged draws",
    "aware": "known draw",
}
_ENSEMBLES = {
    WHOLE_BATCH: "all attacks",
    ThreatModel("batch", "known"): "all attacks, known draw",
    ThreatModel("victim", "unknown"): "all attacks, one victim",
}
_CONTROLS = {CLEAN: "clean", RANDOM_SIGN: "nothing (random signs)"}
_PAPERS = ("FGSM", "PGD-10", "PGD-100")
# What an attacker knows, from the top: nothing, predictions, the base model, draws like those of the defence,
# and the draw itself.
_BEFORE_GRADIENTS = ("surrogate", "transfer", "fixed", "bpda")
_ORDER = (
    *_CONTROLS.values(),
    *(_KINDS[kind] for kind in _BEFORE_GRADIENTS),
    *_PAPERS,
    *(text for kind, text in _KINDS.items() if kind not in _BEFORE_GRADIENTS),
    "other packages",
    "transfer, one victim",
    *_ENSEMBLES.values(),
)
RUNG_HEIGHT = 0.2  # inches
PANELS_ACROSS = 2


def draw_ladder(rows: Sequence[SummaryRow]) -> style.Drawing | None:
    """A panel per checkpoint, a dot per defence and rung; None without an attack."""
    perturbation = main_perturbation(rows)
    if perturbation is None:
        return None
    rungs = {subject: _rungs(rows, subject, perturbation) for subject in subjects_of(rows)}
    names = sorted({name for points in rungs.values() for name in points}, key=_ORDER.index)
    checkpoints = checkpoints_of(rows)
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
        f"What each attacker leaves ({perturbation_text(perturbation)}), from one who knows nothing to one "
        "who knows the defence's draw: the lowest accuracy of each kind of attack, then that of all attacks "
        "together, which decides the verdict."
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
        name = _rung(row)
        if name is None or row.subject != subject or row.accuracy is None:
            continue
        if row.attack != CLEAN and row.perturbation != perturbation:
            continue
        if name not in points or row.accuracy < (points[name].accuracy or 0.0):
            points[name] = row
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
        one_victim = row.threat.inputs == "victim" and name.knows == "transfer"
        return "transfer, one victim" if one_victim else None
    papers = papers_attack(row.attack)
    if papers is not None:
        return papers.upper()
    if name.package is not None:
        return "other packages"
    if name.declared.asks_answers_alone:
        return _KINDS["surrogate"]
    if name.draws > 1 and name.knows == "fresh":
        return _KINDS["averaged"]
    return _KINDS.get(name.knows, "other gradients")
