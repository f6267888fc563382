"""What each attacker leaves, from clean inputs down to the ensemble of all attacks."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from attacks.catalogue import BLACK_BOX
from robustbench_coded.reports.figures.style import (
    MOST_PANELS,
    Drawing,
    drawing,
    first_of,
    label,
    legend,
    panels,
    style_of,
    with_bars,
)
from robustbench_coded.reports.paper import papers_attack
from robustbench_coded.reports.run.tables import checkpoints_of, main_budget, subjects_of
from robustbench_coded.reports.text.formatting import budget_text, inference_text, parsed_attack
from robustbench_coded.schema.case import WHOLE_BATCH, BudgetKey, SubjectKey, ThreatModel
from robustbench_coded.schema.words import CLEAN, CONTROLS, ENSEMBLE, RANDOM_SIGN
from robustbench_coded.statistics.summary import SummaryRow

# Rungs from the top; those of attacks by their names stand between the controls and the ensembles.
_FIRST = ("clean", "random signs", "FGSM", "PGD-10", "PGD-100")
_MIDDLE = (
    "other gradients",
    "averaged draws",
    "one surrogate draw",
    "relaxed gradients",
    "base gradients",
    "queries alone",
    "other packages",
    "transfer",
    "known draw",
    "transfer, one victim",
)
_LAST = ("ensemble", "ensemble, known draw", "ensemble, one victim")
_ORDER = (*_FIRST, *_MIDDLE, *_LAST)
_KINDS = {
    "fresh": "other gradients",
    "eot": "averaged draws",
    "fixed": "one surrogate draw",
    "gmsaavg": "averaged draws",
    "gmsamin": "averaged draws",
    "relaxed": "relaxed gradients",
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
RUNG_HEIGHT = 0.2  # inches
PANELS_ACROSS = 2


def draw(rows: Sequence[SummaryRow]) -> Drawing | None:
    """A panel per checkpoint, a dot per defence and rung; None without an attack."""
    budget = main_budget(rows)
    if budget is None:
        return None
    rungs = {subject: _rungs(rows, subject, budget) for subject in subjects_of(rows)}
    names = sorted({name for found in rungs.values() for name in found}, key=_ORDER.index)
    checkpoints = checkpoints_of(rows)
    shown = checkpoints[:MOST_PANELS]
    across = min(PANELS_ACROSS, len(shown))
    figure, axes = panels(len(shown), 0.7 + RUNG_HEIGHT * len(names), across=across)
    methods = list(dict.fromkeys(subject[1:] for subject in rungs))
    for panel, checkpoint in zip(axes, shown, strict=True):
        for subject, found in rungs.items():
            if subject.checkpoint == checkpoint:
                _dots(panel, found, names, methods.index(subject[1:]), len(methods), subject)
        panel.set_title(label(checkpoint))
        panel.set_yticks(range(len(names)), names, fontsize=8)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_xlim(-3, 103)
        panel.set_xlabel("accuracy, %")
    legend(figure, axes)
    caption = (
        f"Accuracy under the strongest attack of each kind ({budget_text(budget)}), with 95% intervals, and "
        "under the ensemble of all attacks of a threat model, which decides the verdict. Transfer: gradients "
        "of the base model only. Known draw: the attacker knows the defence's draw."
    ) + first_of(len(shown), len(checkpoints), "checkpoints")
    return drawing(figure, "ladder", "Accuracy under increasingly strong attacks", caption)


def _dots(
    panel: Axes,
    found: dict[str, SummaryRow],
    names: Sequence[str],
    style: int,
    styles: int,
    subject: SubjectKey,
) -> None:
    """One subject's accuracies; subjects of one rung stand a little apart."""
    apart = 0.6 / styles * (style - (styles - 1) / 2)
    rungs = sorted(((names.index(name), row) for name, row in found.items()), key=lambda pair: pair[0])
    places, accuracies, bars = with_bars([rung + apart for rung, _ in rungs], [row for _, row in rungs])
    look = style_of(style, inference_text(subject, with_k=True))
    panel.errorbar(accuracies, places, xerr=bars, **{**look, "linestyle": "none"})


def _rungs(rows: Sequence[SummaryRow], subject: SubjectKey, budget: BudgetKey) -> dict[str, SummaryRow]:
    """The lowest row of each rung."""
    found: dict[str, SummaryRow] = {}
    for row in rows:
        name = _rung(row)
        if name is None or row.subject != subject or row.accuracy is None:
            continue
        if row.attack != CLEAN and row.budget != budget:
            continue
        if name not in found or row.accuracy < (found[name].accuracy or 0.0):
            found[name] = row
    return found


def _rung(row: SummaryRow) -> str | None:
    """The rung of a row; None for those that have no place in the figure."""
    if row.attack == ENSEMBLE:
        return _ENSEMBLES.get(row.threat)
    if row.attack in CONTROLS:
        return (
            {CLEAN: "clean", RANDOM_SIGN: "random signs"}[row.attack] if row.threat == WHOLE_BATCH else None
        )
    name = parsed_attack(row.attack)
    if name is None or name.is_submitted:
        return None
    if not row.threat.whole_batch:
        one_victim = row.threat.inputs == "victim" and name.estimator == "transfer"
        return "transfer, one victim" if one_victim else None
    papers = papers_attack(row.attack)
    if papers is not None:
        return papers.upper()
    if name.third_party is not None:
        return "other packages"
    if name.algorithm in BLACK_BOX:
        return "queries alone"
    if name.draws > 1 and name.estimator == "fresh":
        return "averaged draws"
    return _KINDS.get(name.estimator, "other gradients")
