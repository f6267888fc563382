"""The plain tables of a report: verdicts, checks, what everything cost, and every row of the summary."""

from collections.abc import Sequence

from robustbench_coded.reports.judge import Judgement
from robustbench_coded.reports.lines import Budget, Line, Subject, subject_of
from robustbench_coded.reports.sheet import Sheet
from robustbench_coded.reports.words import budget_words, inference_words, interval, percent
from robustbench_coded.reports.worst import WorstExample, answer_words
from robustbench_coded.statistics.verdict import Verdict

SUBJECT = ("Checkpoint", "Inference")
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
    """The lines of summary.csv, accuracies in percent."""
    numbers = (
        "Examples", "Draws", "Accuracy", "Majority", "Every draw", "Clean", "Forwards", "Backwards",
    )  # fmt: skip
    heads = (*SUBJECT, "Threat", "Attack", "Budget", *numbers, "Status")
    return Sheet(heads, tuple(_row(line) for line in lines), frozenset(numbers))


def _row(line: Line) -> tuple[str, ...]:
    return (
        *_subject(line.subject),
        line.threat,
        line.attack,
        "" if line.attack == "clean" else budget_words(line.budget),
        str(line.examples) if line.done else f"{line.examples} of {line.examples_planned}",
        str(line.draws),
        f"{percent(line.accuracy)} {interval(line.low, line.high)}".strip(),
        *(percent(value) for value in (line.majority, line.every_draw, line.clean_accuracy)),
        *("–" if value is None else f"{value:.4g}" for value in (line.forwards, line.backwards)),
        "done" if line.done else "incomplete",
    )


def _verdict(verdict: Verdict) -> str:
    """The word and its figures: ``no gain: 0.0 [0.0, 0.6], base 0.0``."""
    accuracy, above = verdict.accuracy, verdict.above_base
    if accuracy is None:
        return verdict.word
    said = f"{verdict.word}: {percent(accuracy.estimate)} {interval(accuracy.low, accuracy.high)}"
    return said if above is None else f"{said}, base {percent(above.second)}"


def _subject(subject: Subject) -> tuple[str, str]:
    return subject.checkpoint, inference_words(subject, with_k=True)
