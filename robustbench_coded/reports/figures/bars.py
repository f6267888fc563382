"""Bars of a run: the answer beside no defence, what bounds and attacks leave of every subject, and in how
many draws each example is answered rightly.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.certified import CertifiedRow
from robustbench_coded.reports.figures import style
from robustbench_coded.reports.run.opening import Opening, Span
from robustbench_coded.reports.text.formatting import inference_text, papers_attack, perturbation_text
from robustbench_coded.schema.case import WHOLE_BATCH, Subject
from robustbench_coded.schema.words import CONTROLS

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


MOST_BARS = 24
_PARTS = (("certified", style.COLOURS[2], ""), ("unknown", "#BBBBBB", "//"), ("broken", style.COLOURS[1], ""))


def draw_certified(rows: Sequence[CertifiedRow]) -> style.Drawing | None:
    """A bar per subject, threat model and perturbation; None where nothing is certified."""
    found = [row for row in rows if row.certified is not None and row.ensemble is not None]
    shown = found[:MOST_BARS]
    if not shown:
        return None
    figure = Figure(figsize=(style.WIDTH, 0.34 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = [
        f"{style.label(inference_text(row.case.subject, with_k=True), style.LABEL_WIDTH)}, "
        f"{row.case.threat}\n"
        f"{style.label(row.case.subject.checkpoint, style.LABEL_WIDTH)}, "
        f"{perturbation_text(row.case.perturbation)}"
        for row in shown
    ]
    places = range(len(shown), 0, -1)
    left = [0.0] * len(shown)
    for part, colour, hatch in _PARTS:
        widths = [100 * _share(row, part) for row in shown]
        axes.barh(places, widths, left=left, color=colour, hatch=hatch, edgecolor="white", label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(list(places), names, fontsize=7)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of answers, %")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=3)
    caption = (
        "Shares of answers: certified (no perturbation within eps can make them wrong), broken (wrong "
        "under the ensemble of attacks), and unknown (neither)."
    ) + style.first_of(len(shown), len(found), "bars")
    return style.drawing(figure, "certified", "Certified, unknown and broken", caption)


def _share(row: CertifiedRow, part: str) -> float:
    if part == "certified":
        return row.certified.estimate if row.certified is not None else 0.0
    return (row.unknown if part == "unknown" else row.broken) or 0.0


DASHES = ("-", "--", ":")


def draw_correct_draws(results: Sequence[CaseResult]) -> style.Drawing | None:
    """A panel per randomised subject, a line for clean inputs, the paper's attacks and the strongest one."""
    subjects: dict[Subject, list[CaseResult]] = {}
    for result in results:
        if result.randomised and result.cell is not None and result.case.threat == WHOLE_BATCH:
            subjects.setdefault(result.case.subject, []).append(result)
    several = [found for found in subjects.values() if any(r.cell and len(r.cell.draw) > 1 for r in found)]
    shown = several[: style.MOST_PANELS]
    if not shown:
        return None
    figure, axes = style.panels(len(shown))
    for panel, found in zip(axes, shown, strict=True):
        for i, (name, result) in enumerate(_three(found)):
            assert result.cell is not None  # results without outcomes are left out above
            draws = len(result.cell.draw)
            share = np.bincount(result.cell.correct.sum(axis=1), minlength=draws + 1) / len(
                result.cell.example
            )
            panel.plot(
                range(draws + 1),
                100 * share,
                color=style.COLOURS[i],
                marker=style.MARKERS[i],
                linestyle=DASHES[i],
                label=name,
            )
        style.subject_title(panel, found[0].case.subject)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.set_xlabel("correct draws")
        panel.set_ylabel("examples, %")
    style.legend(figure, axes)
    caption = (
        "Share of examples that are answered correctly in none, one, ... all of the scoring draws. Noise "
        "spreads examples over the middle; a successful attack moves them to the left."
    ) + style.first_of(len(shown), len(several), "subjects")
    return style.drawing(figure, "correct-draws", "Correct draws per example", caption)


def _three(results: Sequence[CaseResult]) -> list[tuple[str, CaseResult]]:
    """Clean inputs, the lowest of the paper's attacks and the strongest attack, as far as they ran."""
    chosen = [("clean", result) for result in results if result.case.attack == "clean"][:1]
    papers = [
        result
        for result in results
        if result.case.attack not in CONTROLS and papers_attack(result.case.attack)
    ]
    if papers:
        chosen.append(("lowest of FGSM and PGD", min(papers, key=_accuracy)))
    strongest = [result for result in results if result.case.attack == "strongest"]
    if strongest:
        chosen.append(("strongest attack", min(strongest, key=_accuracy)))
    return chosen


def _accuracy(result: CaseResult) -> float:
    return 1.0 if result.cell is None else float(result.cell.correct.mean())
