"""A comparison of shift runs in every format."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from robustbench_coded.reports.render.html import plain_html
from robustbench_coded.reports.render.latex import latex_text_table
from robustbench_coded.reports.render.markdown import plain_markdown
from robustbench_coded.reports.render.sections import Block, Bullets, Legend, Section
from robustbench_coded.reports.text.escape import csv_text
from robustbench_coded.reports.text.formatting import inference_text, subject_text
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.shift.compare import ShiftComparison
from robustbench_coded.shift.corruptions.constants import CONSTANTS
from robustbench_coded.shift.estimates import Estimate
from robustbench_coded.shift.paper import BESIDE_PAPER
from robustbench_coded.shift.rows import CSV_COLUMNS, Row, csv_fields
from robustbench_coded.shift.sets import CLEAN
from robustbench_coded.shift.tables import means_of_runs, points_text

TITLE = "csrobust comparison under shift"
MEANS_LEGEND = (
    "Accuracies in percent with 95% intervals. Less the baseline: percentage points, paired over the same "
    "images, and over whole batches as soon as an inference answers in batches. mCE: mean corruption error "
    "(arXiv 1903.12261), errors divided by those of the counterpart in the baseline, times 100."
)
DIFFERENCES_LEGEND = (
    "Accuracy less that of the counterpart in the baseline, in points, a mean over severities. Intervals are "
    "not adjusted for their number: if nothing differs, one in twenty excludes 0 by chance."
)


def shift_document(comparison: ShiftComparison, name: str, *, paper: bool) -> str:
    """The comparison as ``md``, ``html``, ``csv`` or ``latex``; ``paper`` shows Table 5 beside it."""
    if name == "csv":
        return comparison_csv(comparison)
    if name == "latex":
        return comparison_latex(comparison, paper=paper)
    said = [f"Baseline: {comparison.baseline}."]
    render = plain_markdown if name == "md" else plain_html
    return render(TITLE, said, list(_sections(comparison, paper=paper)))


def comparison_csv(comparison: ShiftComparison) -> str:
    """The rows of shift.csv, each with its run; figures are fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("run", *CSV_COLUMNS))
    for name, rows in comparison.rows.items():
        writer.writerows([csv_text(name), *csv_fields(row)] for row in rows)
    return text.getvalue()


def comparison_latex(comparison: ShiftComparison, *, paper: bool) -> str:
    """A table environment for the means, and one for the differences of each collection and inference."""
    tables = [latex_text_table(means_of_runs(comparison.rows, paper=paper), f"Means. {MEANS_LEGEND}")]
    for collection in _collections(comparison):
        for inference, table in difference_tables(comparison, collection):
            tables.append(latex_text_table(table, f"{collection}, {inference}. {DIFFERENCES_LEGEND}"))
    return "\n".join(tables)


def difference_tables(comparison: ShiftComparison, collection: str) -> Iterator[tuple[str, TextTable]]:
    """For each inference that has differences: corruptions and severities down, checkpoints across."""
    found: dict[str, dict[str, dict[str, Row]]] = {}
    for name, rows in comparison.rows.items():
        for row in rows:
            if row.collection != collection or row.figure != "difference":
                continue
            if row.severity is None or row.over == CLEAN:
                column = row.subject.checkpoint if len(comparison.rows) == 1 else _in(name, row.subject)
                of = found.setdefault(inference_text(row.subject, with_k=True), {})
                of.setdefault(column, {})[row.over] = row
    for inference, columns in found.items():
        overs = list(dict.fromkeys(over for of in columns.values() for over in of))
        lines = tuple((over, *(points_text(of.get(over)) for of in columns.values())) for over in overs)
        yield inference, TextTable(("Over", *columns), lines, frozenset(columns))


def _in(run: str, subject: SubjectKey) -> str:
    return f"{subject.checkpoint} in {run}"


def _collections(comparison: ShiftComparison) -> list[str]:
    """Those with several corrupted sets; of the others the means say all."""
    return list(dict.fromkeys(one.collection for one in comparison.sets if one.severity))


def _sections(comparison: ShiftComparison, *, paper: bool) -> Iterator[Section]:
    yield Section("runs", "Runs", (_runs(comparison),))
    apart = Bullets(comparison.apart) if comparison.apart else Legend("None that matters here.")
    yield Section("apart", "Differences between the runs", (apart,))
    means = means_of_runs(comparison.rows, paper=paper)
    legends = [Legend(MEANS_LEGEND), *([Legend(BESIDE_PAPER)] if "Paper" in means.heads else [])]
    yield Section("means", "Means", (means, *legends))
    for number, collection in enumerate(_collections(comparison)):
        blocks: list[Block] = []
        for inference, table in difference_tables(comparison, collection):
            blocks += [Legend(f"{inference}, less the baseline:"), table]
        if blocks:
            blocks += [Legend(DIFFERENCES_LEGEND), Bullets(tuple(_told(comparison, collection)))]
            yield Section(f"corruptions-{number}", f"{collection} by corruption", tuple(blocks))
    if comparison.unpaired:
        yield Section("unpaired", "Differences that could not be computed", (Bullets(comparison.unpaired),))


def _runs(comparison: ShiftComparison) -> TextTable:
    lines = tuple(
        (
            name,
            ", ".join(run.collections),
            str(len(run.facts.sets)),
            " or ".join(f"{size:,}" for size in sorted({one.examples for one in run.facts.sets})),
            str(run.facts.k),
            str(run.facts.seed),
        )
        for name, run in comparison.runs.items()
    )
    heads = ("Run", "Data", "Sets", "Examples", "K", "Seed")
    return TextTable(heads, lines, frozenset(heads[2:]))


def _told(comparison: ShiftComparison, collection: str) -> Iterator[str]:
    """For each subject the corruptions under which its interval excludes 0, largest first."""
    for name, rows in comparison.rows.items():
        by_subject: dict[SubjectKey, list[Row]] = {}
        for row in rows:
            if (row.collection, row.figure) == (collection, "difference") and row.over in CONSTANTS:
                by_subject.setdefault(row.subject, []).append(row)
        for subject, differences in by_subject.items():
            certain = sorted(
                (row for row in differences if _settled(row.estimate)),
                key=lambda row: -abs(row.estimate.value),
            )
            said = []
            for side, sign in (("below", -1), ("above", 1)):
                listed = [
                    f"{row.over.replace('_', ' ')} {points_text(row)}"
                    for row in certain
                    if row.estimate.value * sign > 0
                ]
                if listed:
                    said.append(f"{side} the baseline under {', '.join(listed)}")
            if len(certain) < len(differences):
                said.append(f"not distinguishable under {len(differences) - len(certain)}")
            run = f"{name}: " if len(comparison.rows) > 1 else ""
            yield f"{run}{subject_text(subject, with_k=True)}: {'; '.join(said)}."


def _settled(difference: Estimate) -> bool:
    low, high = difference.low, difference.high
    return low is not None and high is not None and (low > 0 or high < 0)
