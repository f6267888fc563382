"""The plain tables of a report: verdicts, checks, what everything cost, and every row of the summary."""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.summary_rows import COMBINED, Budget, Line, Subject, budget_of, subject_of
from robustbench_coded.results.run import Run
from robustbench_coded.reports.text.text_table import Sheet
from robustbench_coded.reports.text.formatting import budget_words, inference_words, interval, percent
from robustbench_coded.reports.run.worst import WorstExample, answer_words, outcomes_of
from robustbench_coded.statistics.components import components
from robustbench_coded.statistics.verdict import Verdict

SUBJECT = ("Checkpoint", "Inference")
COMPONENTS = "Where the uncertainty comes from"
COMPONENTS_LEGEND = (
    "Standard deviation in points that one source alone would give the accuracy of a single evaluation: "
    "other scoring draws, other batches of other examples, the same examples cut into other batches, "
    "another run of the attack. A dash: too few to tell."
)
VERDICT_LEGEND = (
    "no gain: at most 3 points above the base model, upper end at most 6. broken, where there is no base "
    "model: the upper end is at most 5 percent. no failure found: more than that, and every check passed; "
    "an upper bound, never a proof. not settled: the interval is too wide, outcomes are missing, or a "
    "check did not pass. claim refuted: the upper end is below the claim."
)


def verdict_sheet(judgements: Sequence[Judgement]) -> Sheet:
    """A row per subject and budget, a column per threat model."""
    threats = tuple(dict.fromkeys(j.threat for j in judgements))
    found: dict[tuple[Subject, Budget], dict[str, str]] = {}
    for j in judgements:
        found.setdefault((j.subject, j.budget), {})[j.threat] = _verdict(j.verdict)
    rows = [
        (*_subject(subject), budget_words(budget), *(words.get(threat, "") for threat in threats))
        for (subject, budget), words in found.items()
    ]
    return Sheet((*SUBJECT, "Budget", *threats), tuple(rows))


def reason_sheet(judgements: Sequence[Judgement]) -> Sheet:
    """Why each verdict is what it is."""
    rows = [
        (*_subject(j.subject), j.threat, budget_words(j.budget), j.verdict.word, j.verdict.reason)
        for j in judgements
    ]
    return Sheet((*SUBJECT, "Threat", "Budget", "Verdict", "Why"), tuple(rows))


def check_sheet(judgements: Sequence[Judgement], *, passed: bool) -> Sheet:
    """A row per check that passed, or one per check that did not."""
    rows = [
        (*_subject(j.subject), j.threat, budget_words(j.budget), c.name, c.outcome, c.finding, c.next_step)
        for j in judgements
        for c in j.checks
        if (c.outcome == "passed") == passed
    ]
    heads = (*SUBJECT, "Threat", "Budget", "Check", "Outcome", "Finding", "Next")
    return Sheet(heads, tuple(rows))


def worst_sheet(examples: Sequence[WorstExample]) -> Sheet:
    """A row per example that fell."""
    rows = [
        (
            *_subject(subject_of(worst.key)),
            worst.key.attack,
            str(worst.example),
            str(worst.label),
            f"{worst.right_clean} of {worst.draws}",
            f"{worst.right} of {worst.draws}",
            answer_words(worst.answers),
            f"{worst.margin:.2f}",
        )
        for worst in examples
    ]
    numbers = ("Example", "Label", "Right, clean", "Right, attacked", "Margin")
    heads = (*SUBJECT, "Attack", *numbers[:4], "Answers", "Margin")
    return Sheet(heads, tuple(rows), frozenset(numbers))


def row_sheet(lines: Sequence[Line]) -> Sheet:
    """The lines of summary.csv, accuracies in percent; figures that no line has are left out."""
    columns = {name: figure for name, figure in _FIGURES.items() if any(figure(line) for line in lines)}
    rows = [
        (
            *_subject(line.subject),
            line.threat,
            line.attack,
            "" if line.attack == "clean" else budget_words(line.budget),
            *(figure(line) for figure in columns.values()),
            "done" if line.done else "incomplete",
        )
        for line in lines
    ]
    return Sheet(
        (*SUBJECT, "Threat", "Attack", "Budget", *columns, "Status"), tuple(rows), frozenset(columns)
    )


_FIGURES: dict[str, Callable[[Line], str]] = {
    "Examples": lambda line: (
        str(line.examples) if line.done else f"{line.examples} of {line.examples_planned}"
    ),
    "Draws": lambda line: str(line.draws),
    "Accuracy": lambda line: f"{percent(line.accuracy)} {interval(line.low, line.high)}".strip(),
    "Upper, by batches": lambda line: _figure(line.high_batches),
    "Majority": lambda line: percent(line.majority),
    "Every draw": lambda line: percent(line.every_draw),
    "All queries": lambda line: _figure(line.queries),
    "Clean": lambda line: percent(line.clean_accuracy),
    "Forwards": lambda line: "–" if line.forwards is None else f"{line.forwards:.4g}",
    "Backwards": lambda line: "–" if line.backwards is None else f"{line.backwards:.4g}",
}


def component_sheet(run: Run) -> Sheet:
    """Standard deviations in points that each source alone gives an accuracy; no rows without replicates."""
    heads = (*SUBJECT, "Threat", "Attack", "Budget", "Draw", "Batch", "Partition", "Attack run")
    numbers = frozenset(heads[5:])
    outcomes = run.outcomes
    if not len(outcomes) or int(outcomes["replicate"].max()) == 0:
        return Sheet(heads, (), numbers)
    rows = []
    for row in run.rows:
        if row.cell is None or row.key.attack in COMBINED:
            continue
        clean = next(r.key for r in run.rows if r.key.attack == "clean" and r.key[:4] == row.key[:4])
        found = components(pd.concat([outcomes_of(outcomes, key) for key in {row.key, clean}]), row.key)
        figures = (found.draw, found.batch, found.partition, found.attack_run)
        rows.append(
            (
                *_subject(subject_of(row.key)),
                row.key.threat,
                row.key.attack,
                "" if row.key.attack == "clean" else budget_words(budget_of(row.key)),
                *("–" if math.isnan(figure) else f"{100 * figure:.2f}" for figure in figures),
            )
        )
    return Sheet(heads, tuple(rows), numbers)


def _figure(accuracy: float | None) -> str:
    return "" if accuracy is None else percent(accuracy)


def _verdict(verdict: Verdict) -> str:
    """The word and its figures: ``no gain: 0.0 [0.0, 0.6], base 0.0``."""
    accuracy, above = verdict.accuracy, verdict.above_base
    if accuracy is None:
        return verdict.word
    said = f"{verdict.word}: {percent(accuracy.estimate)} {interval(accuracy.low, accuracy.high)}"
    return said if above is None else f"{said}, base {percent(above.second)}"


def _subject(subject: Subject) -> tuple[str, str]:
    return subject.checkpoint, inference_words(subject, with_k=True)
