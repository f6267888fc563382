"""Accuracy up the ladder of what the attacker knows."""

from collections.abc import Sequence

from attacks.naming import BLACK_BOX
from robustbench_coded.reports.figures.lookup import attacked, checkpoints_of, find, main_budget, subjects_of
from robustbench_coded.reports.figures.style import (
    MOST_PANELS,
    Drawing,
    drawing,
    label,
    legend,
    panels,
    percent_axis,
    plot,
)
from robustbench_coded.reports.text.formatting import budget_text, inference_text, parsed_attack
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.controls import ENSEMBLE, STANDARD
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.summary import SummaryRow

ORDER = ("fresh", "eot", "fixed", "gmsa", "bpda", "queries", "aware", "transfer", "transfer, victim")


def draw(lines: Sequence[SummaryRow]) -> Drawing | None:
    """A panel per checkpoint, a line per defence, a rung per kind of knowledge; None with fewer than two
    rungs."""
    budget = main_budget(lines)
    defended = [line for line in lines if line.subject.defence != "standard"]
    if budget is None:
        return None
    rungs = {s: _rungs(defended, s, budget) for s in subjects_of(defended)}
    rungs = {subject: found for subject, found in rungs.items() if found}
    names = sorted({name for found in rungs.values() for name in found}, key=_place)
    if len(names) < 2:
        return None
    checkpoints = [c for c in checkpoints_of(lines) if any(s.checkpoint == c for s in rungs)][:MOST_PANELS]
    figure, axes = panels(len(checkpoints))
    methods = list(dict.fromkeys(s[1:] for s in rungs))
    for panel, checkpoint in zip(axes, checkpoints, strict=True):
        for subject, found in rungs.items():
            if subject.checkpoint == checkpoint:
                style = methods.index(subject[1:])
                shown = [(names.index(name), line) for name, line in found.items()]
                shown.sort(key=lambda pair: pair[0])
                x = [place + 0.06 * style for place, _ in shown]
                name = inference_text(subject, with_k=True)
                plot(panel, x, [line for _, line in shown], style, name)
        base = find(lines, SubjectKey(checkpoint, STANDARD, None, None), ENSEMBLE, WHOLE_BATCH, budget)
        if base is not None and base.accuracy is not None:
            panel.axhline(100 * base.accuracy, color="0.4", linestyle=":", label="standard, ensemble")
        panel.set_title(label(checkpoint))
        panel.set_xticks(range(len(names)), names, rotation=35, ha="right")
        percent_axis(panel)
    legend(figure, axes)
    caption = (
        f"For each kind of knowledge the lowest of its attacks ({budget_text(budget)}), with 95% "
        "intervals: fresh draws at each step, eotM: M draws averaged, fixed: one surrogate draw, aware: "
        "the scored draw, transfer: gradients of the base model. Dotted: the base model's own ensemble."
    )
    return drawing(figure, "ladder", "Accuracy up the ladder of knowledge", caption)


def _rungs(lines: Sequence[SummaryRow], subject: SubjectKey, budget: BudgetKey) -> dict[str, SummaryRow]:
    """The lowest line of each rung."""
    found: dict[str, SummaryRow] = {}
    for line in attacked(lines):
        name = _rung(line)
        if (line.subject, line.budget) != (subject, budget) or name is None:
            continue
        if name not in found or (line.accuracy or 0.0) < (found[name].accuracy or 0.0):
            found[name] = line
    return found


def _rung(line: SummaryRow) -> str | None:
    name = parsed_attack(line.attack)
    if name is None or name.third_party is not None:
        return None
    if not line.threat.whole_batch:
        return "transfer, victim" if name.estimator == "transfer" and line.threat.inputs == "victim" else None
    if name.algorithm in BLACK_BOX:
        return "queries"
    if name.estimator in ("gmsaavg", "gmsamin"):
        return "gmsa"
    return f"eot{name.draws}" if name.draws > 1 else "eot" if name.estimator == "eotauto" else name.estimator


def _place(rung: str) -> tuple[int, int]:
    draws = rung.removeprefix("eot")
    if rung.startswith("eot"):
        return ORDER.index("eot"), int(draws) if draws.isdecimal() else 10**6
    return ORDER.index(rung), 0
