"""The plain tables of a report: verdicts, checks, and every row of the summary."""

from collections.abc import Callable, Sequence
from operator import itemgetter

from robustbench_coded.judge import summary
from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.reports.run.examples import WorstExample, answer_text
from robustbench_coded.reports.text.attack_names import attack_in_words
from robustbench_coded.reports.text.formatting import (
    ATTACK,
    ATTACKED_BY,
    PERTURBATION,
    SUBJECT,
    THREAT,
    Columns,
    TextTable,
    difference_text,
    of_case,
    of_part,
    percent,
    with_interval,
)
from robustbench_coded.schema.words import VerdictName

VERDICT_LEGEND = "Percentages with pointwise 95% confidence intervals."
GIVEN_UP = "Clean-accuracy cost (points)"


def verdict_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """A row per subject, perturbation and threat model: the verdict, and the figures that it came from."""
    figures: Columns[Judgement] = {
        "Robust accuracy": lambda j: with_interval(j.verdict.accuracy),
        "Strongest attack": lambda j: attack_in_words(j.attack) if j.attack else "",
        "Robust accuracy (base model)": lambda j: percent(j.verdict.base.estimate) if j.verdict.base else "",
        "Gain (points)": lambda j: difference_text(j.verdict.gain) if j.verdict.gain else "",
        "Paired images": lambda j: j.verdict.gain.examples if j.verdict.gain else "",
        "Clean accuracy": lambda j: percent(j.verdict.clean.estimate) if j.verdict.clean else "",
        GIVEN_UP: lambda j: difference_text(j.verdict.clean_loss) if j.verdict.clean_loss else "",
    }
    columns: Columns[Judgement] = {"Images": lambda j: j.examples, "Verdict": _verdict}
    measured = {head: _if_measured(of) for head, of in figures.items()}
    numbers = {"Images", *figures} - {"Strongest attack"}
    return TextTable.of(judgements, {**SUBJECT, **PERTURBATION, **THREAT, **columns, **measured}, numbers)


def _verdict(j: Judgement) -> str:
    if not j.examples or j.verdict.accuracy is None:
        return f"{j.verdict.name}: not run yet"
    if j.verdict.missing:
        return f"{j.verdict.name}: outcomes are missing"
    return j.verdict.name_with_meaning


def _if_measured(of: Callable[[Judgement], object]) -> Callable[[Judgement], object]:
    return lambda j: of(j) if j.examples and j.verdict.accuracy else ""


_JUDGED: Columns[Judgement] = {**SUBJECT, **THREAT, **PERTURBATION}


def reason_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """Why each verdict is what it is."""
    columns: Columns[Judgement] = {"Verdict": lambda j: j.verdict.name, "Why": lambda j: j.verdict.reason}
    return TextTable.of(judgements, {**_JUDGED, **columns})


def check_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """A row per check: of a positive verdict all, of any other those that did not pass."""
    checks = [
        (j, check)
        for j in judgements
        for check in j.checks
        if j.verdict.name == VerdictName.NO_FAILURE_FOUND or not check.passed
    ]
    columns: Columns[tuple[Judgement, Check]] = {
        **of_part(_JUDGED, itemgetter(0)),
        "Check": lambda pair: pair[1].name,
        "Outcome": lambda pair: pair[1].outcome,
        "Finding": lambda pair: pair[1].finding,
        "Next": lambda pair: pair[1].next_step or "",
    }
    return TextTable.of(checks, columns)


def worst_text_table(examples: Sequence[WorstExample]) -> TextTable:
    """A row per example that fell."""
    columns: Columns[WorstExample] = {
        **of_case({**SUBJECT, **ATTACK}),
        "Example": lambda worst: worst.example,
        "Label": lambda worst: worst.label,
        "Right, clean": lambda worst: f"{worst.right_clean} of {worst.draws}",
        "Right, attacked": lambda worst: f"{worst.right} of {worst.draws}",
        "Answers": lambda worst: answer_text(worst.answers),
        "Margin": lambda worst: f"{worst.margin:.2f}",
    }
    return TextTable.of(examples, columns, {*columns} - {*SUBJECT, *ATTACK, "Answers"})


def row_text_table(lines: Sequence[summary.SummaryRow]) -> TextTable:
    """The lines of summary.csv, accuracies in percent; figures that no line has are left out."""
    figures = {name: figure for name, figure in _FIGURES.items() if any(figure(row) for row in lines)}
    status: Columns[summary.SummaryRow] = {"Status": lambda row: "done" if row.done else "incomplete"}
    return TextTable.of(lines, {**SUBJECT, **THREAT, **ATTACKED_BY, **figures, **status}, figures)


_FIGURES: dict[str, Callable[[summary.SummaryRow], str]] = {
    "Examples": lambda line: (
        str(line.examples) if line.done else f"{line.examples} of {line.examples_planned}"
    ),
    "Draws": lambda line: str(line.draws),
    "Accuracy": lambda line: with_interval(line.interval, missing="–"),
    "Majority": lambda line: percent(line.majority),
    "Every draw": lambda line: percent(line.every_draw),
    "Reaches its target": lambda line: with_interval(line.reached),
    "Clean accuracy": lambda line: percent(line.clean_accuracy),
    "Forwards": lambda line: "–" if line.forwards is None else f"{line.forwards:.4g}",
    "Backwards": lambda line: "–" if line.backwards is None else f"{line.backwards:.4g}",
}
