"""The plain tables of a report: verdicts, checks, self-tests, stops, the 2 x 2 design of attackers, inputs
made elsewhere, and every row of the summary.
"""

from collections.abc import Callable, Mapping, Sequence

from robustbench_coded.reports.run.examples import WorstExample, answer_text
from robustbench_coded.reports.run.tables import is_attacked
from robustbench_coded.reports.text.formatting import (
    TextTable,
    accuracy_text,
    budget_text,
    gain_text,
    inference_text,
    interval,
    is_submitted,
    percent,
    points_text,
    with_interval,
)
from robustbench_coded.results.judgements import Judgement, SelfTestResult
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.planned_case import Sequential, Stop
from robustbench_coded.schema.words import CLEAN, STRONGEST, CheckOutcome
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.summary import SummaryRow
from robustbench_coded.statistics.verdict import Verdict

SUBJECT = ("Checkpoint", "Inference")
VERDICT_LEGEND = (
    "In percent, with 95% intervals, each by itself; the words at the head of the report allow for their "
    "number. Terms: see 'Terms'."
)
GIVEN_UP = "Clean accuracy given up, points"


def verdict_text_table(run: Run) -> TextTable:
    """A row per subject, budget and threat model: the word, and the figures that it came from."""
    heads = (
        *SUBJECT, "Budget", "Threat", "Images", "Verdict", "Accuracy", "Bare network", "Gain, points",
        "Clean", GIVEN_UP,
    )  # fmt: skip
    found = {row.key: row for row in run.results}
    rows = [
        (
            *_subject(j.subject),
            budget_text(j.budget),
            str(j.threat),
            *_judged(j.verdict, found[j.key]),
        )
        for j in run.judgements
    ]
    return TextTable(heads, tuple(rows), frozenset(heads[6:]) | {"Images"})


def _judged(verdict: Verdict, row: CaseResult) -> tuple[str, ...]:
    """Images, word, accuracy, that of the bare network, gain, clean accuracy and what of it is given up."""
    if row.cell is None or verdict.accuracy is None or not is_attacked(row):
        return "0", f"{verdict.word}: not run yet", *[""] * 5
    gain, clean, given_up = verdict.gain, verdict.clean, verdict.clean_loss
    word = verdict.word if row.complete else f"{verdict.word}: outcomes are missing"
    return (
        str(len(row.cell.example)),
        word,
        with_interval(verdict.accuracy),
        "" if gain is None else percent(gain.second),
        "" if gain is None else gain_text(gain.estimate, gain.low, gain.high),
        "" if clean is None else percent(clean.estimate),
        "" if given_up is None else points_text(given_up),
    )


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


def _subject(subject: SubjectKey) -> tuple[str, str]:
    return subject.checkpoint, inference_text(subject, with_k=True)


SELFTESTS_TITLE = "Self-tests of answers and gradients"
SELFTESTS_LEGEND = (
    "Each self-test asks whether answers and gradients of a subject can carry an attack; docs/self-tests.md "
    "says what each measures and when it fails. no failure found needs every one to pass or not to apply."
)


def selftest_count_table(found: Mapping[SubjectKey, Sequence[SelfTestResult]]) -> TextTable:
    """A row per subject: how many passed, and which did not."""
    rows = []
    for subject, tests in found.items():
        named = {
            outcome: [test.name for test in tests if test.outcome == outcome]
            for outcome in ("passed", "failed", "not applicable")
        }
        rows.append(
            (
                subject.checkpoint,
                inference_text(subject, with_k=True),
                str(len(named["passed"])),
                ", ".join(named["failed"]) or "none",
                ", ".join(named["not applicable"]) or "none",
            )
        )
    return TextTable(
        ("Checkpoint", "Inference", "Passed", "Failed", "Not applicable"), tuple(rows), frozenset({"Passed"})
    )


def selftest_table(found: Mapping[SubjectKey, Sequence[SelfTestResult]]) -> TextTable:
    """A row per subject and self-test, with its finding."""
    rows = [
        (subject.checkpoint, inference_text(subject, with_k=True), test.name, test.outcome, test.finding)
        for subject, tests in found.items()
        for test in tests
    ]
    return TextTable(("Checkpoint", "Inference", "Self-test", "Outcome", "Finding"), tuple(rows))


STOPS_TITLE = "When the verdicts fell"
_COUNTS = ("Examples", "Batches", "Image gradients", "All would cost")


def stops_text_table(sequential: Sequential | None, judgements: Sequence[Judgement]) -> TextTable:
    """A row for each subject that stopped under a threat model and budget; none for other evaluations.

    Args:
        judgements: of the whole run. What ran after a stop may show that outcomes of a batch are more alike
            than they seemed, and open the word again; then both words are told.
    """
    heads = ("Checkpoint", "Inference", "Threat model", "Budget", "Verdict", *_COUNTS, "Ran", "Not run")
    stops = () if sequential is None else sequential.stops
    words = {(j.subject, str(j.threat), j.budget): j.verdict.word for j in judgements}
    return TextTable(heads, tuple(_row(stop, words) for stop in stops), frozenset(_COUNTS))


def stops_legend(sequential: Sequential | None) -> str:
    """How these words were decided."""
    if sequential is None:
        return ""
    ends = ", ".join(f"{end:,}" for end in sequential.rounds)
    return (
        f"Attacks ran in rounds that ended at {ends} examples, the most damaging for its cost first, until "
        "nothing that was left to run could change a verdict. Two verdicts are shown where what ran later "
        "changed the word."
    )


def _row(stop: Stop, words: Mapping[tuple[SubjectKey, str, BudgetKey], str]) -> tuple[str, ...]:
    subject = SubjectKey(stop.checkpoint, stop.defence, stop.k, stop.n)
    budget = BudgetKey(stop.norm, stop.eps, stop.eps_space)
    now = words.get((subject, stop.threat, budget), stop.word)
    return (
        stop.checkpoint,
        inference_text(subject, with_k=True),
        stop.threat,
        budget_text(budget),
        stop.word if now == stop.word else f"{stop.word}: later {now}",
        f"{stop.examples:,} of {stop.planned:,}",
        f"{stop.batches:,}",
        f"{stop.images:,}",
        f"{stop.images_planned:,}",
        ", ".join(stop.attacks),
        ", ".join(stop.spared),
    )


DESIGN_TITLE = "Knowing the draw, and where the attack starts"
DESIGN_LEGEND = (
    "Four attacks with equal steps, on the examples and draws that all four have; differences are paired, in "
    "points, with pointwise 95% intervals. The interaction is how much more knowing the draw takes from the "
    "plain start than from the other. The two effects add up only if it is 0."
)


def design_text_table(judgements: Sequence[Judgement]) -> TextTable:
    """Three rows for each judgement with a design: either start, and what the start takes."""
    heads = ("Checkpoint", "Inference", "Budget", "Start", "Draw unknown", "Draw known", "Knowing takes")
    rows = []
    for judgement in judgements:
        made = judgement.design
        if made is None:
            continue
        subject = judgement.subject
        about = (subject.checkpoint, inference_text(subject, with_k=True), budget_text(judgement.budget))
        names = (made.cells[0].key.attack, made.cells[2].key.attack)
        for attack, effect in zip(names, made.knowing, strict=True):
            cells = (percent(effect.first), percent(effect.second))
            rows.append((*about, attack, *cells, gain_text(effect.estimate, effect.low, effect.high)))
        unknown, known = (gain_text(effect.estimate, effect.low, effect.high) for effect in made.starting)
        rows.append(
            (*about, "the start takes", unknown, known, f"interaction {gain_text(*made.interaction)}")
        )
    return TextTable(heads, tuple(rows), frozenset(heads[4:]))


SUBMITTED_TITLE = "Perturbed inputs of other subjects, shrunk ones, and those at 8 bits"
SUBMITTED_LEGEND = (
    "Inputs perturbed by an attack on another subject and submitted unchanged (from:SUBJECT/ATTACK), and "
    "each subject's own perturbations scaled down. Strongest: accuracy under the strongest of all attacks. "
    "If accuracy is lower here than under the attacks made against the defence, the defence misleads those "
    "attacks. +bits=8: every pixel is rounded to a multiple of 1/255 within eps, as a file of pictures holds "
    "it. If that raises the accuracy, the attack loses strength when images are stored."
)


def submitted_text_table(lines: Sequence[SummaryRow]) -> TextTable:
    """A row per subject and perturbed inputs."""
    heads = ("Checkpoint", "Inference", "Budget", "Perturbed inputs", "Accuracy", "Strongest")
    strongest = {(x.subject, x.budget, x.threat): x for x in lines if x.attack == STRONGEST}
    rows = []
    for row in lines:
        if not is_submitted(row.attack):
            continue
        best = strongest.get((row.subject, row.budget, row.threat))
        rows.append(
            (
                row.subject.checkpoint,
                inference_text(row.subject, with_k=True),
                budget_text(row.budget),
                row.attack,
                accuracy_text(row.accuracy, row.low, row.high),
                percent(best.accuracy if best is not None else None),
            )
        )
    return TextTable(heads, tuple(rows), frozenset({"Accuracy", "Strongest"}))
