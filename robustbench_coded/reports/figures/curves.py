"""The figures of a run: the bars of the first screen, the answer beside no defence; curves over eps and batch
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
from robustbench_coded.reports.run.opening import Opening, Span
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

BAR_WIDTH, GROUP_HEIGHT = 5.4, 0.62  # inches; narrow, so that a telephone shows it at a size that can be read
BAR, APART = 0.36, 0.12  # and lines of several kinds on one bar
LETTER = 0.018  # of the width, for the numbers behind the bars
INK = "#24292f"
GREY = "#8a8f98"
BARS_TITLE = "What is left under attack"
BARS_CAPTION = (
    "Accuracy with 95% intervals: unperturbed, under the strongest of FGSM, PGD-10 and PGD-100, and under "
    "all attacks together. Of several settings, the bar ends at the highest, its dark part at the lowest, "
    "and a line spans their intervals of one kind."
)


def draw_answer(opening: Opening) -> style.Drawing | None:
    """Groups of two bars, the defence over no defence; None where nothing was judged."""
    if not opening.bars:
        return None
    figure = Figure(figsize=answer_size(opening), layout="constrained")
    draw_bars(figure.subplots(), opening)
    figure.legend(loc="outside upper left", ncols=2, fontsize=10)
    return style.drawing(figure, "answer", BARS_TITLE, BARS_CAPTION)


def answer_size(opening: Opening) -> tuple[float, float]:
    """Width and height in inches."""
    return BAR_WIDTH, GROUP_HEIGHT * len(opening.bars) + 0.5


def draw_bars(axes: Axes, opening: Opening) -> None:
    """The bars of the answer, of which there is one at least; whoever calls draws the legend."""
    groups = opening.bars
    both = any(group.bare for group in groups)
    for place, group in enumerate(groups):
        shift = BAR / 2 if both else 0.0
        _draw_bar(axes, place - shift, group.settings, style.COLOURS[1])
        if group.bare:
            _draw_bar(axes, place + shift, group.bare, GREY)
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


def _draw_bar(axes: Axes, place: float, kept: Span, colour: str) -> None:
    """From 0 to the least that is kept, paler on to the most, a line a kind of interval, and the figures."""
    least, most = 100 * kept.least, 100 * kept.most
    axes.barh([place], [most], BAR, color=colour, alpha=0.45)
    axes.barh([place], [least], BAR, color=colour)
    for at, (_, low, high) in enumerate(kept.ends):
        middle, half, beside = 50 * (low + high), 50 * (high - low), at - (len(kept.ends) - 1) / 2
        axes.errorbar([middle], [place + APART * beside], xerr=half, color=INK, linewidth=1, capsize=2)
    highest = max(most, *(100 * high for _, _, high in kept.ends))
    axes.text(highest + 2, place, str(kept), va="center", fontsize=10)


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
    found: dict[str, list[Subject]] = {}
    for subject in tables.subjects_of(ensembles):
        title = inference_text(subject, with_k=True) + "\n" if alone else ""
        found.setdefault(title + subject.checkpoint, []).append(subject)
    shown = dict(list(found.items())[: style.MOST_PANELS])
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
    ) + style.first_of(len(shown), len(found), "subjects" if alone else "checkpoints")
    return style.drawing(figure, "eps-curve", "Accuracy over eps", caption)


def _cross(curves: Mapping[Subject, Sequence[SummaryRow]]) -> bool:
    """True if two defences on one checkpoint change places from one eps to the next."""
    for one, other in combinations(curves, 2):
        there = {row.perturbation: row.accuracy or 0.0 for row in curves[other]}
        apart = [(r.accuracy or 0.0) - there[r.perturbation] for r in curves[one] if r.perturbation in there]
        if one.checkpoint == other.checkpoint and apart and min(apart) < 0 < max(apart):
            return True
    return False


def draw_batch_sizes(rows: Sequence[SummaryRow]) -> style.Drawing | None:
    """A panel per swept defence, a line per attack; None where each defence had one batch size."""
    perturbation = tables.main_perturbation(rows)
    swept: dict[tuple[str, str], list[SummaryRow]] = {}
    for row in rows:
        usable = row.accuracy is not None and row.subject.k is not None
        if usable and row.threat == THREAT and row.attack not in ("strongest", "naive-min"):
            swept.setdefault((row.subject.checkpoint, row.subject.defence), []).append(row)
    swept = {pair: found for pair, found in swept.items() if len({row.subject.k for row in found}) > 1}
    if perturbation is None or not swept:
        return None
    shown = list(swept.items())[: style.MOST_PANELS]
    figure, axes = style.panels(len(shown), 3.0)
    names = list(dict.fromkeys(_line(row) for _, found in shown for row in found))
    for panel, (_, found) in zip(axes, shown, strict=True):
        for name in names:
            of_name = [
                row
                for row in found
                if _line(row) == name and (row.attack == "clean" or row.perturbation == perturbation)
            ]
            # Of inputs perturbed elsewhere the line has the lowest at each size.
            curve = {row.subject.k: row for row in sorted(of_name, key=lambda r: -(r.accuracy or 0.0))}
            sizes = sorted(k for k in curve if k is not None)
            dashes = "--" if name.startswith("ensemble") else "-"
            style.plot(panel, sizes, [curve[k] for k in sizes], names.index(name), name, linestyle=dashes)
        first = found[0].subject
        panel.set_xscale("log", base=2)
        sizes = sorted({row.subject.k for row in found if row.subject.k is not None})
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
    names = sorted({name for found in rungs.values() for name in found}, key=_ORDER.index)
    checkpoints = checkpoints_of(rows)
    shown = checkpoints[: style.MOST_PANELS]
    across = min(PANELS_ACROSS, len(shown))
    figure, axes = style.panels(len(shown), 0.7 + RUNG_HEIGHT * len(names), across=across)
    methods = list(dict.fromkeys(subject.inference for subject in rungs))
    for panel, checkpoint in zip(axes, shown, strict=True):
        for subject, found in rungs.items():
            if subject.checkpoint == checkpoint:
                _dots(panel, found, names, methods.index(subject.inference), len(methods), subject)
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
    found: dict[str, SummaryRow],
    names: Sequence[str],
    number: int,
    styles: int,
    subject: Subject,
) -> None:
    """One subject's accuracies; subjects of one rung stand a little apart."""
    apart = 0.6 / styles * (number - (styles - 1) / 2)
    rungs = sorted(((names.index(name), row) for name, row in found.items()), key=lambda pair: pair[0])
    places, accuracies, bars = style.with_bars([rung + apart for rung, _ in rungs], [row for _, row in rungs])
    look = style.style_of(number, inference_text(subject, with_k=True))
    panel.errorbar(accuracies, places, xerr=bars, **{**look, "linestyle": "none"})


def _rungs(rows: Sequence[SummaryRow], subject: Subject, perturbation: Perturbation) -> dict[str, SummaryRow]:
    """The lowest row of each rung."""
    found: dict[str, SummaryRow] = {}
    for row in rows:
        name = _rung(row)
        if name is None or row.subject != subject or row.accuracy is None:
            continue
        if row.attack != CLEAN and row.perturbation != perturbation:
            continue
        if name not in found or row.accuracy < (found[name].accuracy or 0.0):
            found[name] = row
    return found


def _rung(row: SummaryRow) -> str | None:
    """The rung of a row; None for those that have no place in the figure."""
    if row.attack == ENSEMBLE:
        return _ENSEMBLES.get(row.threat)
    if row.attack in CONTROLS:
        return _CONTROLS[row.attack] if row.threat == WHOLE_BATCH else None
    name = parsed_attack(row.attack)
    if name is None or name.estimator == "submitted":
        return None
    if row.threat.inputs != "batch":
        one_victim = row.threat.inputs == "victim" and name.estimator == "transfer"
        return "transfer, one victim" if one_victim else None
    papers = papers_attack(row.attack)
    if papers is not None:
        return papers.upper()
    if name.third_party is not None:
        return "other packages"
    if name.asks_answers_alone:
        return "queries alone"
    if name.draws > 1 and name.estimator == "fresh":
        return _KINDS["averaged"]
    return _KINDS.get(name.estimator, "other gradients")
