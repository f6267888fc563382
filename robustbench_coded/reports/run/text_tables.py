"""The plain tables of a report: verdicts, checks, what everything cost, and every row of the summary."""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from robustbench_coded.reports.run.worst import WorstExample, answer_text, outcomes_of
from robustbench_coded.reports.text.formatting import (
    accuracy_text,
    budget_text,
    gain_text,
    inference_text,
    interval,
    percent,
    with_interval,
)
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.controls import CLEAN, COMBINED
from robustbench_coded.schema.words import CheckOutcome
from robustbench_coded.statistics.components import components
from robustbench_coded.statistics.summary import SummaryRow
from robustbench_coded.statistics.verdict import Verdict

SUBJECT = ("Checkpoint", "Inference")
COMPONENTS = "Where the uncertainty comes from"
COMPONENTS_LEGEND = (
    "Standard deviation of the accuracy of one evaluation, in points, due to each source alone: other "
    "scoring draws, other batches of other examples, the same examples in other batches, another run of "
    "the attack. A dash: too few to estimate it."
)
VERDICT_LEGEND = (
    "By pointwise 95% intervals. Gain: the accuracy that the ensemble of all attacks leaves, less what it "
    "leaves the base model. worse than its base: its upper end is below 0. no gain: it is below the margin "
    "(3 points unless --margin says otherwise). no failure found: its lower end is above the margin and "
    "every check passed; an upper bound, never a proof. Without a base model, broken: the upper end of the "
    "accuracy is at most a twentieth of the clean accuracy above what uninformative inputs leave; no failure "
    "found: its lower end is above that, and every check passed. not settled: anything else. claim refuted: "
    "the upper end of the accuracy that is claimed is below the claim. Clean loss: clean accuracy of the "
    "base model less that of the defence."
)


def verdict_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """A row per subject and budget: its clean accuracy, what that lost, and a column per threat model."""
    threats = tuple(dict.fromkeys(str(j.threat) for j in judgements))
    found: dict[tuple[SubjectKey, BudgetKey], dict[str, Verdict]] = {}
    for j in judgements:
        found.setdefault((j.subject, j.budget), {})[str(j.threat)] = j.verdict
    rows = [
        (
            *_subject(subject),
            budget_text(budget),
            *_clean(max(verdicts.values(), key=_examples)),
            *(_verdict(verdicts[threat]) if threat in verdicts else "" for threat in threats),
        )
        for (subject, budget), verdicts in found.items()
    ]
    numbers = frozenset({"Clean", "Clean loss"})
    return TextTable((*SUBJECT, "Budget", "Clean", "Clean loss", *threats), tuple(rows), numbers)


def reason_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """Why each verdict is what it is."""
    rows = [
        (*_subject(j.subject), str(j.threat), budget_text(j.budget), j.verdict.word, j.verdict.reason)
        for j in judgements
    ]
    return TextTable((*SUBJECT, "Threat", "Budget", "Verdict", "Why"), tuple(rows))


def check_text_table(judgements: Sequence[Judgement], *, passed: bool) -> TextTable:
    """A row per check that passed, or one per check that did not."""
    rows = [
        (
            *_subject(j.subject),
            str(j.threat),
            budget_text(j.budget),
            c.name,
            c.outcome,
            c.finding,
            str(c.next_step or ""),
        )
        for j in judgements
        for c in j.checks
        if (c.outcome == CheckOutcome.PASSED) == passed
    ]
    heads = (*SUBJECT, "Threat", "Budget", "Check", "Outcome", "Finding", "Next")
    return TextTable(heads, tuple(rows))


def worst_text_table(examples: Sequence[WorstExample]) -> TextTable:
    """A row per example that fell."""
    rows = [
        (
            *_subject(worst.key.subject),
            worst.key.attack,
            str(worst.example),
            str(worst.label),
            f"{worst.right_clean} of {worst.draws}",
            f"{worst.right} of {worst.draws}",
            answer_text(worst.answers),
            f"{worst.margin:.2f}",
        )
        for worst in examples
    ]
    numbers = ("Example", "Label", "Right, clean", "Right, attacked", "Margin")
    heads = (*SUBJECT, "Attack", *numbers[:4], "Answers", "Margin")
    return TextTable(heads, tuple(rows), frozenset(numbers))


def row_text_table(lines: Sequence[SummaryRow]) -> TextTable:
    """The lines of summary.csv, accuracies in percent; figures that no line has are left out."""
    columns = {name: figure for name, figure in _FIGURES.items() if any(figure(row) for row in lines)}
    rows = [
        (
            *_subject(row.subject),
            str(row.threat),
            row.attack,
            "" if row.attack == CLEAN else budget_text(row.budget),
            *(figure(row) for figure in columns.values()),
            "done" if row.done else "incomplete",
        )
        for row in lines
    ]
    return TextTable(
        (*SUBJECT, "Threat", "Attack", "Budget", *columns, "Status"), tuple(rows), frozenset(columns)
    )


_FIGURES: dict[str, Callable[[SummaryRow], str]] = {
    "Examples": lambda line: (
        str(line.examples) if line.done else f"{line.examples} of {line.examples_planned}"
    ),
    "Draws": lambda line: str(line.draws),
    "Accuracy": lambda line: accuracy_text(line.accuracy, line.low, line.high),
    "Other images": lambda line: "" if line.others is None else interval(*line.others),
    "Majority": lambda line: percent(line.majority),
    "Every draw": lambda line: percent(line.every_draw),
    "All submissions": lambda line: with_interval(line.survival),
    "Reaches its target": lambda line: with_interval(line.reached),
    "Clean": lambda line: percent(line.clean_accuracy),
    "Forwards": lambda line: "–" if line.forwards is None else f"{line.forwards:.4g}",
    "Backwards": lambda line: "–" if line.backwards is None else f"{line.backwards:.4g}",
}


def component_text_table(run: Run) -> TextTable:
    """Standard deviations in points that each source alone gives an accuracy; no rows without replicates."""
    heads = (*SUBJECT, "Threat", "Attack", "Budget", "Draw", "Batch", "Partition", "Attack run")
    numbers = frozenset(heads[5:])
    outcomes = run.outcomes
    if not len(outcomes) or int(outcomes["replicate"].max()) == 0:
        return TextTable(heads, (), numbers)
    rows = []
    for row in run.results:
        if row.cell is None or row.key.attack in COMBINED:
            continue
        clean = next(r.key for r in run.results if r.key.attack == CLEAN and r.key.subject == row.key.subject)
        found = components(pd.concat([outcomes_of(outcomes, key) for key in {row.key, clean}]), row.key)
        figures = (found.draw, found.batch, found.partition, found.attack_run)
        rows.append(
            (
                *_subject(row.key.subject),
                str(row.key.threat),
                row.key.attack,
                "" if row.key.attack == CLEAN else budget_text(row.key.budget),
                *("–" if math.isnan(figure) else f"{100 * figure:.2f}" for figure in figures),
            )
        )
    return TextTable(heads, tuple(rows), numbers)


def _figure(accuracy: float | None) -> str:
    return "" if accuracy is None else percent(accuracy)


def _verdict(verdict: Verdict) -> str:
    """The word and its figures: ``no gain: 0.4 [0.1, 2.3], base 0.0, gain +0.4 [-0.2, +2.3]``."""
    accuracy, gain = verdict.accuracy, verdict.gain
    if accuracy is None:
        return verdict.word
    said = f"{verdict.word}: {with_interval(accuracy)}"
    if gain is None:
        return said
    return f"{said}, base {percent(gain.second)}, gain {gain_text(gain.estimate, gain.low, gain.high)}"


def _clean(verdict: Verdict) -> tuple[str, str]:
    """Clean accuracy, and the loss against the base model."""
    clean, loss = verdict.clean, verdict.clean_loss
    lost = "" if loss is None else gain_text(loss.estimate, loss.low, loss.high)
    return "" if clean is None else percent(clean.estimate), lost


def _examples(verdict: Verdict) -> int:
    """On how many examples the clean accuracy is compared: a sample of victims says less than all batches."""
    return 0 if verdict.clean_loss is None else verdict.clean_loss.examples


def _subject(subject: SubjectKey) -> tuple[str, str]:
    return subject.checkpoint, inference_text(subject, with_k=True)
