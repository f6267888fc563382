"""Runs of `csrobust shift` beside each other, and the document on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_coded.errors import InputError
from robustbench_coded.paper.shift import tables as shift_tables
from robustbench_coded.paper.shift.answers import SHIFT, Answers, SetFacts, ShiftRun, load_shift
from robustbench_coded.paper.shift.estimates import ShiftEstimate
from robustbench_coded.paper.shift.sets import CLEAN, CONSTANTS
from robustbench_coded.paper.studies.paper import trainings
from robustbench_coded.reports.compare.comparison import (
    SHARED,
    batches_apart,
    beside_baseline,
    named_runs,
    settings_apart,
    weights_apart,
)
from robustbench_coded.reports.compare.pairing import Contender, baseline_of
from robustbench_coded.reports.render.comparison import apart_section, unpaired_section
from robustbench_coded.reports.render.html import plain_html
from robustbench_coded.reports.render.latex import latex_text_table
from robustbench_coded.reports.render.markdown import plain_markdown
from robustbench_coded.reports.render.sections import Block, Bullets, Legend, Section
from robustbench_coded.reports.text.escape import csv_document, csv_text
from robustbench_coded.reports.text.formatting import Columns, TextTable, inference_text, series, subject_text
from robustbench_coded.runs.folder import MANIFEST
from robustbench_coded.schema.case import Subject

# Shift runs side by side: accuracies, and differences and corruption errors beside a baseline.
#
# Differences are paired over the same images, so every run has to hold the same ones. Sets that only some
# runs hold are left out.


@dataclass(frozen=True, eq=False)
class ShiftComparison:
    """What is said about several shift runs.

    Attributes:
        runs: name -> run, in the order given.
        baseline: the baseline in words.
        sets: what all runs hold, in the order of the first.
        rows: by run; differences and corruption errors are relative to the subject's counterpart in the
            baseline.
        apart: what the runs do not share, one sentence each.
        unpaired: why differences could not be formed, one sentence each.
    """

    runs: dict[str, ShiftRun]
    baseline: str
    sets: tuple[SetFacts, ...]
    rows: dict[str, list[shift_tables.Row]]
    apart: tuple[str, ...]
    unpaired: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """The comparison as JSON data: what ``--json`` prints."""
        return {
            "runs": {name: str(run.path) for name, run in self.runs.items()},
            "baseline": self.baseline,
            "apart": list(self.apart),
            "unpaired": list(self.unpaired),
            "figures": [{"run": name, **row.as_data()} for name, rows in self.rows.items() for row in rows],
        }


def require_shift_runs(paths: Sequence[Path]) -> None:
    """Raises InputError where a folder is of ``csrobust shift`` and another is an evaluation under attack."""
    shifted = [path for path in paths if (path / SHIFT).is_file()]
    attacked = [path for path in paths if path not in shifted and (path / MANIFEST).is_file()]
    if shifted and attacked:
        raise InputError(
            f"{shifted[0]} was measured under shift (csrobust shift) and {attacked[0]} under attack "
            "(csrobust eval); compare runs of one kind"
        )


def compare_shift(paths: Sequence[str | Path], baseline: str | None = None) -> ShiftComparison:
    """Compares all subjects of some folders of ``csrobust shift``.

    Args:
        paths: run folders.
        baseline: name of a run, a checkpoint or a defence; None takes the first run, or standard inference
            where there is one run alone.

    Raises:
        InputError: no folder of ``csrobust shift``, the same one twice, a baseline that names nothing, or
            runs of different images.
    """
    runs = named_runs([load_shift(Path(path)) for path in paths])
    sets = _shared_sets(runs)
    answers = {
        Contender(name, one.subject): _on(sets, run, one) for name, run in runs.items() for one in run.answers
    }
    counterpart, words = baseline_of(
        {name: str(run.path) for name, run in runs.items()}, list(answers), baseline
    )
    unpaired = [
        f"{subject_text(subject, with_k=True)} in {name} is incomplete and left out; the command of that run "
        "completes it."
        for name, run in runs.items()
        for subject in run.missing
    ]
    named = {name: trainings(run.manifest) for name, run in runs.items()}
    collections: dict[str, list[SetFacts]] = {}
    for one in sets:
        collections.setdefault(one.collection, []).append(one)
    rows: dict[str, list[shift_tables.Row]] = {name: [] for name in runs}
    for contender, mine in answers.items():
        name, subject = contender
        other = counterpart(contender)
        if other is None:
            told = subject_text(subject, with_k=True)
            unpaired.append(f"{told} in {name} has no counterpart in the baseline, {words}.")
        beside = None if other is None else answers[other]
        for chosen in collections.values():
            rows[name] += shift_tables.rows_beside(mine, beside, chosen, named[name].get(subject.checkpoint))
    return ShiftComparison(runs, words, tuple(sets), rows, tuple(_apart(runs, sets)), tuple(unpaired))


def _key(one: SetFacts) -> tuple[str, str, int]:
    return one.collection, one.name, one.severity


def _shared_sets(runs: dict[str, ShiftRun]) -> list[SetFacts]:
    """The first run's sets that all of them hold.

    Raises:
        InputError: there are none, or they are not of the same images and labels.
    """
    (first, run), *others = runs.items()
    shared = list(run.facts.sets)
    for name, other in others:
        there = {_key(one): one for one in other.facts.sets}
        shared = [one for one in shared if _key(one) in there]
        for one in shared:
            same = there[_key(one)]
            where = f"{first} and {name}: {_text(one)}"
            if one.examples != same.examples:
                raise InputError(
                    f"{where} has {one.examples:,} and {same.examples:,} images; compare runs of the same "
                    "--limit"
                )
            if one.sha256 != same.sha256:
                raise InputError(
                    f"{where} has different images; compare runs of the same --data, --limit and --seed "
                    "(sets made here also depend on the versions of numpy, scipy and Pillow)"
                )
            mine, theirs = run.labels.get(one), other.labels.get(same)
            if mine is not None and theirs is not None and not np.array_equal(mine, theirs):
                raise InputError(f"{where} has the same images with different labels")
    if not shared:
        each = "; ".join(f"{name}: {', '.join(run.collections)}" for name, run in runs.items())
        raise InputError(f"the runs have no set in common ({each})")
    return shared


def _on(sets: Sequence[SetFacts], run: ShiftRun, answers: Answers) -> Answers:
    """The answers to ``sets`` alone: where a set begins differs from run to run."""
    there = {_key(one): one for one in run.facts.sets}
    return replace(answers, right={one: answers.right[there[_key(one)]] for one in sets})


def _text(one: SetFacts) -> str:
    severity = f", severity {one.severity}," if one.severity else ""
    return f"{one.collection} {one.name.replace('_', ' ')}{severity}"


def _apart(runs: dict[str, ShiftRun], sets: Sequence[SetFacts]) -> list[str]:
    manifests = {name: run.manifest for name, run in runs.items()}
    settings = ("the draws: seeds", "the device", "the version of csrobust")
    said = [
        *(
            text
            for what in settings
            for text in settings_apart(what, {name: SHARED[what](of) for name, of in manifests.items()})
        ),
        *batches_apart({name: str(run.facts.k) for name, run in runs.items()}),
        *weights_apart(manifests),
    ]
    kept = {_key(one) for one in sets}
    left: dict[str, list[str]] = {}
    for key in dict.fromkeys(_key(one) for run in runs.values() for one in run.facts.sets):
        if key not in kept:
            left.setdefault(f"{key[0]} {key[1].replace('_', ' ')}", []).append(str(key[2]))
    if left:
        names = [f"{name} {'/'.join(s)}" if s != ["0"] else name for name, s in left.items()]
        said.append(f"Left out, because some run lacks them: {series(names)}.")
    return said


TITLE = "csrobust comparison under shift"
MEANS_LEGEND = shift_tables.MEANS_LEGEND.format("the counterpart in the baseline")
DIFFERENCES_LEGEND = (
    "Accuracy less that of the counterpart in the baseline, in points, a mean over severities. Intervals are "
    "not adjusted for their number: if nothing differs, one in twenty excludes 0 by chance."
)


def shift_document(comparison: ShiftComparison, name: str, *, paper: bool) -> str:
    """The comparison as ``md``, ``html``, ``csv`` or ``latex``; ``paper`` shows Table 5 beside it.

    csv has the rows of shift.csv, each with its run; latex a table environment for the means, and one for the
    differences of each collection and inference.
    """
    if name == "csv":
        rows = (
            [csv_text(run), *shift_tables.csv_fields(row)]
            for run, found in comparison.rows.items()
            for row in found
        )
        return csv_document(("run", *shift_tables.CSV_COLUMNS), rows)
    if name == "latex":
        tables = [
            latex_text_table(shift_tables.means_table(comparison.rows, paper=paper), f"Means. {MEANS_LEGEND}")
        ]
        for collection in _collections(comparison):
            for inference, table in difference_tables(comparison, collection):
                tables.append(latex_text_table(table, f"{collection}, {inference}. {DIFFERENCES_LEGEND}"))
        return "\n".join(tables)
    said = [f"Baseline: {comparison.baseline}."]
    render = plain_markdown if name == "md" else plain_html
    return render(TITLE, said, list(_sections(comparison, paper=paper)))


def difference_tables(comparison: ShiftComparison, collection: str) -> Iterator[tuple[str, TextTable]]:
    """For each inference that has differences: corruptions and severities down, checkpoints across."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    for name, rows in comparison.rows.items():
        for row in rows:
            if row.collection != collection or row.figure != "difference":
                continue
            if row.severity is None or row.over == CLEAN:
                column = row.subject.checkpoint + (f" in {name}" if len(comparison.rows) > 1 else "")
                of = found.setdefault(inference_text(row.subject, with_k=True), {})
                of[row.over, column] = shift_tables.points_text(row)
    for inference, cells in found.items():
        yield inference, shift_tables.crossed("Over", cells)


def _collections(comparison: ShiftComparison) -> list[str]:
    """Those with several corrupted sets; of the others the means say all."""
    return list(dict.fromkeys(one.collection for one in comparison.sets if one.severity))


def _sections(comparison: ShiftComparison, *, paper: bool) -> Iterator[Section]:
    yield Section("runs", "Runs", (_runs(comparison),))
    yield apart_section(comparison.apart)
    means = shift_tables.means_table(comparison.rows, paper=paper)
    legends = [Legend(MEANS_LEGEND), *([Legend(shift_tables.BESIDE_PAPER)] if "Paper" in means.heads else [])]
    yield Section("means", "Means", (means, *legends))
    for number, collection in enumerate(_collections(comparison)):
        blocks: list[Block] = []
        for inference, table in difference_tables(comparison, collection):
            blocks += [Legend(f"{inference}, less the baseline:"), table]
        if blocks:
            blocks += [Legend(DIFFERENCES_LEGEND), Bullets(tuple(_told(comparison, collection)))]
            yield Section(f"corruptions-{number}", f"{collection} by corruption", tuple(blocks))
    if comparison.unpaired:
        yield unpaired_section(comparison.unpaired)


def _runs(comparison: ShiftComparison) -> TextTable:
    numbers: Columns[tuple[str, ShiftRun]] = {
        "Sets": lambda run: len(run[1].facts.sets),
        "Examples": lambda run: shift_tables.sizes_text(run[1]),
        "K": lambda run: run[1].facts.k,
        "Seed": lambda run: run[1].facts.seed,
    }
    columns: Columns[tuple[str, ShiftRun]] = {
        "Run": lambda run: run[0],
        "Data": lambda run: ", ".join(run[1].collections),
        **numbers,
    }
    return TextTable.of(comparison.runs.items(), columns, numbers)


def _told(comparison: ShiftComparison, collection: str) -> Iterator[str]:
    """For each subject the corruptions under which its interval excludes 0, largest first."""
    for name, rows in comparison.rows.items():
        by_subject: dict[Subject, list[shift_tables.Row]] = {}
        for row in rows:
            if (row.collection, row.figure) == (collection, "difference") and row.over in CONSTANTS:
                by_subject.setdefault(row.subject, []).append(row)
        for subject, differences in by_subject.items():
            told = [
                (
                    f"{row.over.replace('_', ' ')} {shift_tables.points_text(row)}",
                    row.estimate.value,
                    _settled(row.estimate),
                )
                for row in differences
            ]
            run = f"{name}: " if len(comparison.rows) > 1 else ""
            yield f"{run}{subject_text(subject, with_k=True)}: {beside_baseline(told, 'under', '')}."


def _settled(difference: ShiftEstimate) -> bool:
    low, high = difference.low, difference.high
    return low is not None and high is not None and (low > 0 or high < 0)
