"""The figures of a run: the answer of the first screen, beside the base model; curves over eps and batch
size (Table 10 of arXiv 2510.00253); and the ladder: what each attacker leaves, from clean inputs down to all
attacks together.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_coded.judge.summary import SummaryRow
from robustbench_coded.reports.figures import style
from robustbench_coded.reports.run import tables
from robustbench_coded.reports.run.opening import ALL_ATTACKS, Opening, Span
from robustbench_coded.reports.run.tables import checkpoints_of, main_perturbation, subjects_of
from robustbench_coded.reports.text.formatting import (
    inference_text,
    is_submitted,
    papers_attack,
    parsed_attack,
    perturbation_text,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import CLEAN, CONTROLS, ENSEMBLE, RANDOM_SIGN

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
    """A panel per checkpoint, a line per defence; where such lines cross, a panel per subject.

    None where every attack had the same eps.
    """
    ensembles = [
        row for row in rows if row.attack == "ensemble" and row.threat == THREAT and row.accuracy is not None
    ]
    spaces = [(row.perturbation.norm, row.perturbation.eps_space) for row in ensembles]
    space = max(spaces, key=spaces.count, default=None)
    ensembles = [row for row in ensembles if (row.perturbation.norm, row.perturbation.eps_space) == space]
    if space is None or len({row.perturbation.eps for row in ensembles}) < 2:
        return None
    curves: dict[Subject, list[SummaryRow]] = {}
    for row in sorted(ensembles, key=lambda row: row.perturbation.eps):
        curves.setdefault(row.subject, []).append(row)
    alone = _cross(curves)
    groups: dict[str, list[Subject]] = {}
    for subject in tables.subjects_of(ensembles):
        title = inference_text(subject, with_k=True) + "\n" if alone else ""
        groups.setdefault(title + subject.checkpoint, []).append(subject)
    shown = dict(list(groups.items())[: style.MOST_PANELS])
    figure, axes = style.panels(len(shown))
    methods = list(dict.fromkeys(s.inference for s in tables.subjects_of(ensembles)))
    for panel, (title, subjects) in zip(axes, shown.items(), strict=True):
        for subject in subjects:
            clean = tables.find(rows, subject, "clean", THREAT, None)
            points = [(0.0, clean)] if clean is not None else []
            points += [(row.perturbation.eps, row) for row in curves[subject]]
            name = inference_text(subject, with_k=True)
            x = [eps for eps, _ in points]
            style.plot(panel, x, [row for _, row in points], methods.index(subject.inference), name)
        panel.set_title("\n".join(style.label(line, style.TITLE_WIDTH) for line in title.split("\n")))
        panel.set_xlabel(f"eps ({space[0]}, {space[1]})")
        style.percent_axis(panel)
    style.legend(figure, axes)
    caption = (
        f"Accuracy of the ensemble of all attacks under {THREAT}; at eps 0 clean inputs. {style.INTERVALS}"
    ) + style.first_of(len(shown), len(groups), "subjects" if alone else "checkpoints")
    return style.drawing(figure, "eps-curve", "Accuracy over eps", caption)


def _cross(curves: Mapping[Subject, Sequence[SummaryRow]]) -> bool:
    """True if two defences on one checkpoint change places from one eps to the next."""
    for own, other in combinations(curves, 2):
        there = {row.perturbation: row.accuracy or 0.0 for row in curves[other]}
        apart = [(r.accuracy or 0.0) - there[r.perturbation] for r in curves[own] if r.perturbation in there]
        if own.checkpoint == other.checkpoint and apart and min(apart) < 0 < max(apart):
            return True
    return False


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
    shown = list(swept.items())[: style.MOST_PANELS]
    figure, axes = style.panels(len(shown), 3.0)
    names = list(dict.fromkeys(_line(row) for _, group in shown for row in group))
    for panel, (_, group) in zip(axes, shown, strict=True):
        for name in names:
            of_name = [
                row
                for row in group
                if _line(row) == name and (row.attack == "clean" or row.perturbation == perturbation)
            ]
            # Of inputs perturbed elsewhere the line has the lowest at each size.
            curve = {row.subject.k: row for row in sorted(of_name, key=lambda r: -(r.accuracy or 0.0))}
            sizes = sorted(k for k in curve if k is not None)
            dashes = "--" if name.startswith("ensemble") else "-"
            style.plot(panel, sizes, [curve[k] for k in sizes], names.index(name), name, linestyle=dashes)
        first = group[0].subject
        panel.set_xscale("log", base=2)
        sizes = sorted({row.subject.k for row in group if row.subject.k is not None})
        panel.set_xticks(sizes, [str(k) for k in sizes])
        panel.minorticks_off()
        panel.set_xlabel("batch size K")
        # A line each: together they are wider than a third of a page.
        names_of = (inference_text(first.at_any_size, with_k=True), first.checkpoint)
        panel.set_title("\n".join(style.label(text, style.TITLE_WIDTH) for text in names_of))
        style.percent_axis(panel)
    style.legend(figure, axes)
    caption = f"Accuracy under each attack ({THREAT}, {perturbation_text(perturbation)}). {style.INTERVALS}"
    caption += style.first_of(len(shown), len(swept), "subjects")
    return style.drawing(figure, "batch-sizes", "Accuracy against batch size", caption)


def _line(row: SummaryRow) -> str:
    return tables.SUBMITTED if is_submitted(row.attack) else row.attack


_KINDS = {
    "fresh": "other gradients",
    "averaged": "averaged draws",
    "fixed": "one surrogate draw",
    "bpda": "base gradients",
    "surrogate": "queries alone",
    "transfer": "transfer",
    "aware": "known draw",
}
_ENSEMBLES = {
    WHOLE_BATCH: "ensemble",
    ThreatModel("batch", "known"): "ensemble, known draw",
    ThreatModel("victim", "unknown"): "ensemble, one victim",
}
_CONTROLS = {CLEAN: "clean", RANDOM_SIGN: "random signs"}
_PAPERS = ("FGSM", "PGD-10", "PGD-100")
# From the top; attacks that go by their knowledge stand between the paper's and the ensembles.
_ORDER = (
    *_CONTROLS.values(),
    *_PAPERS,
    *dict.fromkeys(_KINDS.values()),
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
        f"Accuracy under the strongest attack of each kind ({perturbation_text(perturbation)}), and "
        "under the ensemble of all attacks of a threat model, which decides the verdict. Transfer: gradients "
        f"of the base model only. Known draw: the attacker knows the defence's draw. {style.INTERVALS}"
    ) + style.first_of(len(shown), len(checkpoints), "checkpoints")
    return style.drawing(figure, "ladder", "Accuracy under increasingly strong attacks", caption)


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
        return "queries alone"
    if name.draws > 1 and name.knows == "fresh":
        return _KINDS["averaged"]
    return _KINDS.get(name.knows, "other gradients")
