"""What a shift run is counted into: a row a set, a row a mean, for shift.csv, tables and figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from robustbench_coded.reports.paper.paper import trainings
from robustbench_coded.reports.text.escape import csv_text
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.controls import STANDARD
from robustbench_coded.shift.answers import Answers, ShiftRun
from robustbench_coded.shift.corruptions.constants import EXTRA, MAIN, SEVERITIES
from robustbench_coded.shift.estimates import Estimate, accuracy, corruption_error, difference
from robustbench_coded.shift.facts import SetFacts
from robustbench_coded.shift.paper import papers_mean

FIGURES = ("accuracy", "difference", "corruption_error")
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

    subject: SubjectKey
    collection: str
    over: str
    severity: int | None
    figure: str
    estimate: Estimate
    examples: int
    sets: int
    draws: int
    paper: float | None = None

    def as_data(self) -> dict[str, object]:
        """One flat object, for ``--json``."""
        figures = dict(zip(("value", "ci_low", "ci_high"), self.estimate, strict=True))
        rest = {name: value for name, value in self._asdict().items() if name not in ("subject", "estimate")}
        return {**self.subject._asdict(), **rest, **figures}


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
    subject = SubjectKey(run.facts.baseline, STANDARD, None, None)
    return next((answers for answers in run.answers if answers.subject == subject), None)


def means_of(sets: Sequence[SetFacts]) -> dict[str, list[SetFacts]]:
    """What means are taken over: the corruptions that the mean corruption error is defined on, all of them,
    each corruption, each severity. Parts that are not complete are called so."""
    corrupted = [one for one in sets if one.severity]
    if not corrupted:
        return {}
    names = list(dict.fromkeys(one.name for one in corrupted))
    main = [one for one in corrupted if one.name in MAIN]
    found = {}
    if {*MAIN} <= {*names}:
        found[MEAN_15] = main
    if {*MAIN, *EXTRA} <= {*names}:
        found[MEAN_19] = corrupted
    elif len(names) != len(MAIN) or not main:
        found[f"mean of {len(names)}"] = corrupted
    for name in names if len({one.severity for one in corrupted}) > 1 else ():
        found[name] = [one for one in corrupted if one.name == name]
    for severity in SEVERITIES:
        chosen = [one for one in corrupted if one.severity == severity]
        if chosen and len(names) > 1:
            found[f"severity {severity}"] = chosen
    return found


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
        over: str, severity: int | None, figure: str, estimate: Estimate | None, of: list[SetFacts]
    ) -> None:
        if estimate is not None:
            paper = None
            if figure == "accuracy" and standard:
                paper = papers_mean(collection, over, training)
            rows.append(
                Row(
                    answers.subject,
                    collection,
                    over,
                    severity,
                    figure,
                    estimate,
                    of[0].examples,
                    len(of),
                    draws,
                    paper,
                )
            )

    for one in sets:
        add(one.name, one.severity, "accuracy", accuracy(answers, [one]), [one])
        if baseline is not None and baseline is not answers and not one.severity:
            add(one.name, one.severity, "difference", difference(answers, baseline, [one]), [one])
    for over, chosen in means_of(sets).items():
        add(over, None, "accuracy", accuracy(answers, chosen), chosen)
        if baseline is not None and baseline is not answers:
            add(over, None, "difference", difference(answers, baseline, chosen), chosen)
        if baseline is not None and over.startswith("mean"):
            add(over, None, "corruption_error", corruption_error(answers, baseline, chosen), chosen)
    return rows


def rows_csv(rows: Sequence[Row]) -> str:
    """shift.csv: accuracies, differences and intervals as fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(map(csv_fields, rows))
    return text.getvalue()


def csv_fields(row: Row) -> list[object]:
    """One row in `CSV_COLUMNS`."""
    values = [_number(value) for value in row.estimate]
    subject = ["" if part is None else part for part in row.subject]
    severity = "" if row.severity is None else row.severity
    return [
        csv_text(subject[0]), csv_text(subject[1]), *subject[2:], csv_text(row.collection), row.over,
        severity, row.figure, *values, row.examples, row.sets, row.draws, _number(row.paper),
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
