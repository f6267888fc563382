"""The rows of a report on shift and their tables, beside those of the paper."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import structs

from robustbench_coded.paper.shift.answers import Answers, SetFacts, ShiftRun
from robustbench_coded.paper.shift.corruptions import EXTRA, MAIN, SEVERITIES
from robustbench_coded.paper.shift.estimates import ShiftEstimate, accuracy, corruption_error, difference
from robustbench_coded.paper.shift.images import CLEAN
from robustbench_coded.paper.studies.over_seeds import csv_cell
from robustbench_coded.reports.run.paper import printed, trainings
from robustbench_coded.reports.text.escape import csv_document
from robustbench_coded.reports.text.formatting import Columns, TextTable, inference_text, interval, percent
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.words import STANDARD, IntervalKind

# What the paper calls our collections, and what its figures are over. It does not say which version of
# CIFAR-10.1.
_PAPERS = {
    "CIFAR-10-C (ours)": ("CIFAR-10-C", ("mean of 19",)),
    "CIFAR-10-C (published)": ("CIFAR-10-C", ("mean of 19",)),
    "CIFAR-10.1": ("CIFAR-10.1", ("v4", "v6")),
    "CIFAR-10.2": ("CIFAR-10.2", ("test",)),
    "ImageNet-R": ("ImageNet-R", ("test",)),
}


def table5() -> dict[str, Any]:
    """Table 5 as printed, in percent."""
    return printed("paper.shift")


BESIDE_PAPER = (
    f"Paper: Table 5 of arXiv 2510.00253, mean over seeds, a {table5()['network']} trained for "
    "350 epochs; its CIFAR-10-C is the published one. Another network and another training: compare the "
    "order, not the values."
)


def papers_mean(collection: str, over: str, training: str | None) -> float | None:
    """The paper's accuracy as a fraction; None where it has no such setting."""
    table, overs = _PAPERS.get(collection, ("", ()))
    if over not in overs or training not in table5()[table]:
        return None
    return round(table5()[table][training][0] / 100, 6)


MEANS_LEGEND = (
    "Accuracies in percent with 95% intervals. Less the baseline: percentage points, paired over the same "
    "examples, and over whole batches as soon as an inference answers in batches. mCE: mean corruption error "
    "(arXiv 1903.12261), errors divided by those of the baseline's standard inference, times 100."
)
CSV_COLUMNS = (
    "checkpoint", "defence", "k", "n", "collection", "over", "severity", "figure", "value", "ci_low",
    "ci_high", "examples", "sets", "draws", "paper",
)  # fmt: skip
MEAN_15, MEAN_19 = "mean of 15", "mean of 19"


class Row(NamedTuple):
    """One figure of one subject.

    Attributes:
        over: the set's name, or what the mean is over: ``mean of 15``, ``mean of 19``, ``severity 3`` ...
        severity: None for a mean over severities, 0 where there is none.
        figure: one of `FIGURES`; differences and corruption errors are relative to the baseline's standard
            inference.
        paper: the paper's accuracy as a fraction, None without one.
    """

    subject: Subject
    collection: str
    over: str
    severity: int | None
    figure: str
    estimate: ShiftEstimate
    examples: int
    sets: int
    draws: int
    paper: float | None = None

    def as_data(self) -> dict[str, object]:
        """One flat object, for ``--json``."""
        figures = dict(zip(("value", "ci_low", "ci_high"), self.estimate, strict=True))
        rest = {name: value for name, value in self._asdict().items() if name not in ("subject", "estimate")}
        return {**structs.asdict(self.subject), **rest, **figures}


def rows_of(run: ShiftRun) -> list[Row]:
    """All rows, by subject, collection and set."""
    baseline = baseline_of(run)
    named = trainings(run.manifest)
    rows = []
    for answers in run.answers:
        training = named.get(answers.subject.checkpoint)
        for collection in run.collections:
            rows += rows_beside(answers, baseline, run.sets(collection), training)
    return rows


def baseline_of(run: ShiftRun) -> Answers | None:
    """The named checkpoint's standard inference."""
    subject = Subject(run.facts.baseline, STANDARD, None, None)
    return next((answers for answers in run.answers if answers.subject == subject), None)


def means_of(sets: Sequence[SetFacts]) -> dict[str, list[SetFacts]]:
    """Groups for means: the corruptions that the mean corruption error is defined on, all of them,
    each corruption, each severity. Parts that are not complete are called so."""
    corrupted = [facts for facts in sets if facts.severity]
    if not corrupted:
        return {}
    names = list(dict.fromkeys(facts.name for facts in corrupted))
    main = [facts for facts in corrupted if facts.name in MAIN]
    means = {}
    if {*MAIN} <= {*names}:
        means[MEAN_15] = main
    if {*MAIN, *EXTRA} <= {*names}:
        means[MEAN_19] = corrupted
    elif len(names) != len(MAIN) or not main:
        means[f"mean of {len(names)}"] = corrupted
    for name in names if len({facts.severity for facts in corrupted}) > 1 else ():
        means[name] = [facts for facts in corrupted if facts.name == name]
    for severity in SEVERITIES:
        chosen = [facts for facts in corrupted if facts.severity == severity]
        if chosen and len(names) > 1:
            means[f"severity {severity}"] = chosen
    return means


def rows_beside(
    answers: Answers, baseline: Answers | None, sets: Sequence[SetFacts], training: str | None
) -> list[Row]:
    """All rows of one subject on the sets of one collection.

    Args:
        baseline: what differences and corruption errors are relative to; None for none of them.
        training: the paper's name for how the checkpoint was trained.
    """
    collection = sets[0].collection
    rows = []
    draws = answers.right[sets[0]].shape[1]
    standard = answers.subject.defence == STANDARD

    def add(
        over: str, severity: int | None, figure: str, estimate: ShiftEstimate | None, of: list[SetFacts]
    ) -> None:
        if estimate is not None:
            paper = papers_mean(collection, over, training) if figure == "accuracy" and standard else None
            about = (answers.subject, collection, over, severity, figure)
            rows.append(Row(*about, estimate, of[0].examples, len(of), draws, paper))

    for facts in sets:
        add(facts.name, facts.severity, "accuracy", accuracy(answers, [facts]), [facts])
        if baseline is not None and baseline is not answers and not facts.severity:
            add(facts.name, facts.severity, "difference", difference(answers, baseline, [facts]), [facts])
    for over, chosen in means_of(sets).items():
        add(over, None, "accuracy", accuracy(answers, chosen), chosen)
        if baseline is not None and baseline is not answers:
            add(over, None, "difference", difference(answers, baseline, chosen), chosen)
        if baseline is not None and over.startswith("mean"):
            add(over, None, "corruption_error", corruption_error(answers, baseline, chosen), chosen)
    return rows


def rows_csv(rows: Sequence[Row]) -> str:
    """shift.csv: accuracies, differences and intervals as fractions."""
    lines = ([csv_cell(data[name]) for name in CSV_COLUMNS] for data in (row.as_data() for row in rows))
    return csv_document(CSV_COLUMNS, lines)


class Mean(NamedTuple):
    """The accuracy of one subject over several sets, or a natural one, and what is beside it."""

    row: Row
    difference: Row | None
    error: Row | None


def means_table(rows: Sequence[Row]) -> TextTable:
    """A line for each subject and each mean, or natural set: accuracy, difference, mean corruption error."""
    with_k = len({row.subject.k for row in rows if row.subject.k is not None}) > 1
    by_figure = {(*_about(row), row.figure): row for row in rows}
    means = []
    for row in rows:
        if row.figure == "accuracy" and (row.severity == 0 or row.over.startswith("mean")):
            beside = [by_figure.get((*_about(row), figure)) for figure in ("difference", "corruption_error")]
            means.append(Mean(row, *beside))
    order = list(dict.fromkeys((mean.row.collection, mean.row.over) for mean in means))
    means.sort(key=lambda mean: order.index((mean.row.collection, mean.row.over)))  # subjects as they come
    figures: Columns[Mean] = {
        "Accuracy": lambda mean: row_text(mean.row),
        "Less the baseline": lambda mean: points_text(mean.difference),
        "mCE": lambda mean: "" if mean.error is None else row_text(mean.error),
        "Paper": lambda mean: "" if mean.row.paper is None else percent(mean.row.paper),
    }
    columns: Columns[Mean] = {
        "Images": lambda mean: mean.row.collection,
        "Over": lambda mean: mean.row.over,
        "Checkpoint": lambda mean: mean.row.subject.checkpoint,
        "Inference": lambda mean: inference_text(mean.row.subject, with_k=with_k),
        **figures,
    }
    return TextTable.of(means, columns, figures).without_empty(("mCE", "Paper"))


def _about(row: Row) -> tuple[Subject, str, str]:
    return row.subject, row.collection, row.over


def corruption_table(rows: Sequence[Row], collection: str, defence: tuple[str, int | None]) -> TextTable:
    """Corruptions and severities down, checkpoints across, under one inference."""
    chosen = [
        r for r in rows
        if r.collection == collection and (r.subject.defence, r.subject.n) == defence
        and r.figure == "accuracy" and (r.severity is None or r.over == CLEAN)
    ]  # fmt: skip
    cells = {(r.over, r.subject.checkpoint): row_text(r) for r in chosen}
    return crossed("Over", cells)


def crossed(corner: str, cells: Mapping[tuple[str, str], str]) -> TextTable:
    """Arranges cells by the first part of their key in rows and by the second in columns."""
    across = list(dict.fromkeys(column for _, column in cells))
    down = dict.fromkeys(row for row, _ in cells)
    lines = tuple((row, *(cells.get((row, column), "") for column in across)) for row in down)
    return TextTable((corner, *across), lines, frozenset(across))


def sizes_text(run: ShiftRun) -> str:
    """How many examples the sets of a run have: ``1,000 or 2,000``."""
    return " or ".join(f"{size:,}" for size in sorted({facts.examples for facts in run.facts.sets}))


def row_text(row: Row) -> str:
    """``71.2 [69.8, 72.6]``"""
    ends = interval(row.estimate.low, row.estimate.high, IntervalKind.POPULATION)
    return f"{percent(row.estimate.value)} {ends}".rstrip()


def points_text(row: Row | None) -> str:
    """``+1.3 [0.2, 2.4]`` in percentage points."""
    if row is None:
        return ""
    ends = interval(row.estimate.low, row.estimate.high, IntervalKind.POPULATION)
    return f"{100 * row.estimate.value:+z.1f} {ends}".strip()


def inferences_of(rows: Sequence[Row]) -> list[Subject]:
    """One subject for each inference, in their order."""
    return list({(r.subject.defence, r.subject.n): r.subject for r in reversed(rows)}.values())[::-1]
