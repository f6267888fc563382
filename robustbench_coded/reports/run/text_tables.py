"""The plain tables of a report: verdicts, checks, self-tests, stops, inputs
made elsewhere, and every row of the summary.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from robustbench_coded.judge import summary
from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.judgements import Judgement, SelfTestResult
from robustbench_coded.reports.run.examples import WorstExample, answer_text
from robustbench_coded.reports.text.formatting import (
    ATTACK,
    ATTACKED_BY,
    PERTURBATION,
    SUBJECT,
    THREAT,
    Columns,
    TextTable,
    accuracy_text,
    difference_text,
    inference_text,
    interval,
    of_case,
    of_part,
    percent,
    with_interval,
)
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.manifest import SampleSizes, Stop
from robustbench_coded.schema.words import CheckOutcome

VERDICT_LEGEND = (
    "In percent, with 95% intervals, each by itself: of twenty intervals, one is expected to miss the truth. "
    "Terms: see 'Terms'."
)
GIVEN_UP = "Clean accuracy given up, points"


def verdict_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """A row per subject, perturbation and threat model: the verdict, and the figures that it came from."""
    figures: Columns[Judgement] = {
        "Accuracy": lambda j: with_interval(j.verdict.accuracy),
        "Decided by": lambda j: j.attack,
        "Bare network": lambda j: percent(j.verdict.gain.second) if j.verdict.gain else "",
        "Gain, points": lambda j: difference_text(j.verdict.gain) if j.verdict.gain else "",
        "Clean": lambda j: percent(j.verdict.clean.estimate) if j.verdict.clean else "",
        GIVEN_UP: lambda j: difference_text(j.verdict.clean_loss) if j.verdict.clean_loss else "",
    }
    told: Columns[Judgement] = {"Images": lambda j: j.examples, "Verdict": _verdict}
    measured = {head: _if_measured(of) for head, of in figures.items()}
    numbers = {"Images", *figures} - {"Decided by"}
    return TextTable.of(judgements, {**SUBJECT, **PERTURBATION, **THREAT, **told, **measured}, numbers)


def _verdict(j: Judgement) -> str:
    if not j.examples or j.verdict.accuracy is None:
        return f"{j.verdict.name}: not run yet"
    return f"{j.verdict.name}: outcomes are missing" if j.verdict.missing else j.verdict.name


def _if_measured(of: Callable[[Judgement], object]) -> Callable[[Judgement], object]:
    return lambda j: of(j) if j.examples and j.verdict.accuracy else ""


_JUDGED: Columns[Judgement] = {**SUBJECT, **THREAT, **PERTURBATION}


def reason_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """Why each verdict is what it is."""
    columns: Columns[Judgement] = {"Verdict": lambda j: j.verdict.name, "Why": lambda j: j.verdict.reason}
    return TextTable.of(judgements, {**_JUDGED, **columns})


def check_text_table(judgements: Sequence[Judgement], *, passed: bool) -> TextTable:
    """A row per check that passed, or one per check that did not."""
    checks = [(j, c) for j in judgements for c in j.checks if (c.outcome == CheckOutcome.PASSED) == passed]
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


SELFTESTS_TITLE = "Self-tests of answers and gradients"
SELFTESTS_LEGEND = (
    "Each self-test asks whether answers and gradients of a subject can carry an attack; docs/self-tests.md "
    "says what each measures and when it fails. no failure found needs every one to pass or not to apply."
)


def selftest_table(found: Mapping[Subject, Sequence[SelfTestResult]]) -> TextTable:
    """A row per subject and self-test, with its finding."""
    columns: Columns[SelfTestResult] = {
        "Self-test": lambda test: test.name,
        "Outcome": lambda test: test.outcome,
        "Finding": lambda test: test.finding,
    }
    rows = [(subject, test) for subject, tests in found.items() for test in tests]
    return TextTable.of(rows, {**_OF_SUBJECT, **of_part(columns, itemgetter(1))})


_OF_SUBJECT: Columns[tuple[Subject, Any]] = {
    "Checkpoint": lambda pair: pair[0].checkpoint,
    "Inference": lambda pair: inference_text(pair[0], with_k=True),
}


STOPS_TITLE = "When the verdicts fell"


def stops_text_table(sequential: SampleSizes | None, judgements: Sequence[Judgement]) -> TextTable:
    """A row for each subject that stopped under a threat model and perturbation; none for other evaluations.

    Args:
        judgements: of the whole run. What ran after a stop may show that outcomes of a batch are more alike
            than they seemed, and open the verdict again; then both verdicts are told.
    """
    verdicts = {(j.subject, j.threat, j.perturbation): j.verdict.name for j in judgements}

    def verdict(stop: Stop) -> str:
        now = verdicts.get((stop.case.subject, stop.case.threat, stop.case.perturbation), stop.verdict)
        return stop.verdict if now == stop.verdict else f"{stop.verdict}: later {now}"

    counts: Columns[Stop] = {
        "Examples": lambda stop: f"{stop.examples:,} of {stop.planned:,}",
        "Batches": lambda stop: f"{stop.batches:,}",
        "Image gradients": lambda stop: f"{stop.images:,}",
        "All would cost": lambda stop: f"{stop.images_planned:,}",
    }
    columns: Columns[Stop] = {
        **of_case({**SUBJECT, "Threat model": lambda case: case.threat, **PERTURBATION}),
        "Verdict": verdict,
        **counts,
        "Ran": lambda stop: ", ".join(stop.attacks),
        "Not run": lambda stop: ", ".join(stop.skipped_attacks),
    }
    return TextTable.of(() if sequential is None else sequential.stops, columns, counts)


def stops_legend(sequential: SampleSizes | None) -> str:
    """How these verdicts were decided."""
    if sequential is None:
        return ""
    ends = ", ".join(f"{end:,}" for end in sequential.sample_sizes)
    return (
        f"Attacks ran in rounds that ended at {ends} examples, the most damaging for its cost first, until "
        "nothing that was left to run could change a verdict. Two verdicts are shown where what ran later "
        "changed the verdict."
    )
