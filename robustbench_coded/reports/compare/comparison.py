"""Several runs side by side: every subject's accuracies, their differences to a baseline where they pair,
what these settle, and what the runs do not share; and all of it as CSV.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, combinations
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_coded.errors import InputError
from robustbench_coded.judge.paired import Difference
from robustbench_coded.judge.run import RunData, run_data
from robustbench_coded.reports.compare.pairing import (
    Contender,
    Counterpart,
    Pairing,
    baseline_of,
    of_base,
    same_data,
)
from robustbench_coded.reports.run.tables import (
    Table,
    TableBuilder,
    TableCell,
    TableRow,
    by_inference,
    columns_of,
    subjects_of,
    typed_attacks,
)
from robustbench_coded.reports.text.escape import csv_table
from robustbench_coded.reports.text.formatting import (
    MARKS,
    Columns,
    TextTable,
    counted,
    difference_text,
    inference_text,
    kinds_text,
    perturbation_text,
    series,
    subject_text,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Perturbation
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import CLEAN, ENSEMBLE, STANDARD

SHARED: dict[str, Callable[[RunManifest], object]] = {
    "the perturbations": lambda manifest: " and ".join(
        sorted(map(perturbation_text, manifest.judged_perturbations))
    ),
    "the number of examples": lambda manifest: manifest.data.examples,
    "the choice of examples": lambda manifest: manifest.identity.subset or "first, or all",
    "the draws: seeds": lambda manifest: manifest.identity.seed,
    "the draws: number": lambda manifest: max((case.draws for case in manifest.cases), default=0),
    "the batches: K": lambda manifest: sorted({case.batch_size or 0 for case in manifest.cases} - {0}),
    "the state of defences": lambda manifest: manifest.identity.state or "reset",
    "the precision of attacks": lambda manifest: ", ".join(
        sorted({str(facts.gradients.get("precision", "float32")) for facts in manifest.checkpoints})
    ),
    "the device": lambda manifest: manifest.last.machine.device,
    "the code of csrobust": lambda manifest: (
        f"{manifest.last.versions.get('csrobust')} ({manifest.identity.csrobust or 'digest not recorded'})"
    ),
}


def incompatibilities_of(runs: dict[str, RunData]) -> Iterator[str]:
    """One sentence per thing in which runs differ."""
    manifests = {name: run.manifest for name, run in runs.items()}
    yield from (f"{name} is not complete: {run.missing}." for name, run in runs.items() if run.missing)
    if not all(same_data(*pair) for pair in combinations(manifests.values(), 2)):
        known = ((name, manifest.identity) for name, manifest in manifests.items())
        data = (f"{of.data} ({str(of.data_sha256)[:8]}) in {name}" for name, of in known)
        yield f"Runs differ in the data: {', '.join(data)}."
    for what, of in SHARED.items():
        values = {name: of(manifest) for name, manifest in manifests.items()}
        if len(set(map(str, values.values()))) > 1:
            each = ", ".join(f"{value} in {name}" for name, value in values.items())
            yield f"Runs differ in {what}: {each}."
    weights: dict[str, dict[str, str]] = {}
    for name, manifest in manifests.items():
        for facts in manifest.checkpoints:
            weights.setdefault(facts.name, {})[name] = facts.sha256
    for checkpoint, hashes in weights.items():
        if len(set(hashes.values())) > 1:
            yield f"{checkpoint} is not the same file in {series(list(hashes))}: the weights differ."


LEGEND = "In bold: under the strongest single attack. Differences are paired, in points, with 95% intervals."
COMMON = "Over common attacks: both worst cases are formed again of the attacks that ran on both."


@dataclass(frozen=True)
class Compared:
    """What stands behind the accuracies of a row.

    Attributes:
        clean, worst: its differences to the baseline without an attack and in the worst case; None where
            they were not formed.
        common: the number of attacks behind ``worst`` that ran on both; 0 for all attacks on each.
        different: False for the baseline itself and for the same defence in another run.
        gain: over its base model. verdict: its name; '' without one.
    """

    clean: Difference | None
    worst: Difference | None
    common: int
    different: bool
    gain: Difference | None
    verdict: str


_ENDS: Columns[Compared] = {
    "Clean, difference": lambda row: difference_text(row.clean),
    "Worst case, difference": lambda row: (
        difference_text(row.worst) + f" over {counted(row.common, 'common attack')}" * bool(row.common)
    ),
    "Gain over base": lambda row: difference_text(row.gain),
    "Verdict": lambda row: row.verdict,
}


@dataclass(frozen=True)
class RunComparison:
    """Statements about several runs.

    Attributes:
        runs: name -> run, in the order given.
        baseline: the baseline in words.
        tables: one per perturbation; cells carry the difference to the baseline where it could be formed.
        compared: the rows that are set against another defence.
        incompatibilities: what the runs do not share, one sentence each.
        unpaired: why differences could not be formed, one sentence each.
        lower: the attacks outside the common ones that are lower than these, one sentence each.
    """

    runs: dict[str, RunData]
    baseline: str
    tables: tuple[Table, ...]
    compared: tuple[Compared, ...]
    incompatibilities: tuple[str, ...]
    unpaired: tuple[str, ...]
    lower: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The baseline, how many other defences differ significantly from it by each kind of interval, and
        how many are not compared; `unpaired` says why.
        """
        worst = _significant("Worst case", [each.worst for each in self.compared])
        clean = _significant("Clean accuracy", [each.clean for each in self.compared])
        missing = sum(each.worst is None for each in self.compared)
        without = f"Not compared: {missing}." if missing else ""
        if not self.compared:
            without = "No other defence stands beside it."
        return " ".join(filter(None, (f"Baseline: {self.baseline}.", worst, clean, without)))

    @property
    def legend(self) -> str:
        """How to read the differences, and the intervals of the tables."""
        differences = (d for each in self.compared for d in (each.clean, each.worst, each.gain) if d)
        kinds = {d.kind for d in differences}.union(*(table.kinds for table in self.tables))
        common = COMMON if any(each.common for each in self.compared) else ""
        return " ".join(filter(None, (LEGEND, kinds_text(kinds), common, *self.lower)))

    def as_data(self) -> dict[str, Any]:
        """The comparison as JSON data: what ``--json`` prints."""
        cells = [
            {"table": table.title, **dict(zip(table.heads, row.labels, strict=True)), **_cell_data(cell)}
            for table in self.tables
            for row in table.rows
            for cell in row.cells
            if cell.line is not None
        ]
        return {
            "runs": {name: str(run.path) for name, run in self.runs.items()},
            "baseline": self.baseline,
            "apart": list(self.incompatibilities),
            "unpaired": list(self.unpaired),
            "lower": list(self.lower),
            "accuracies": cells,
        }


def compare(paths: Sequence[str | Path], baseline: str | None = None) -> RunComparison:
    """Compares all subjects of several run folders.

    Args:
        paths: run folders.
        baseline: name of a run, a checkpoint or a defence; None takes the first of several runs, or standard
            inference in a single run.

    Raises:
        InputError: no run folder, a path that is none, the same one twice, or an unknown baseline.
    """
    if not paths:
        raise InputError("compare: no run folders; give one or more")
    runs = _named([run_data(path) for path in paths])
    contenders = [
        Contender(name, s) for name, run in runs.items() for s in by_inference(subjects_of(run.rows))
    ]
    counterpart, words = baseline_of(
        {name: str(run.path) for name, run in runs.items()}, contenders, baseline
    )
    pairing = Pairing(runs)
    judged = {
        row.perturbation
        for run in runs.values()
        for row in run.rows
        if row.perturbation in run.manifest.judged_perturbations
    }
    rows = _Rows(runs, contenders, counterpart, words, pairing)
    # Runs may have been made in any order; of each norm the smallest eps comes first.
    tables = [rows.table(budget) for budget in sorted(judged, key=attrgetter("norm", "eps_space", "eps"))]
    return RunComparison(
        runs,
        words,
        tuple(tables),
        tuple(rows.compared),
        tuple(incompatibilities_of(runs)),
        tuple(pairing.reasons),
        tuple(pairing.lower),
    )


def _cell_data(cell: TableCell) -> dict[str, Any]:
    line = cell.line
    assert line is not None
    figures = {name: value for name, value in asdict(line).items() if name != "case"}
    return {
        **line.case.as_columns(),
        **figures,
        "difference": cell.difference and asdict(cell.difference),
    }


def _named(runs: Sequence[RunData]) -> dict[str, RunData]:
    """Runs under their folders' names; under their paths where two folders have the same name.

    Raises:
        InputError: a folder is given twice.
    """
    resolved = [run.path.resolve() for run in runs]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise InputError(f"{runs[i].path} is given twice; name each run once")
    names = [run.name for run in runs]
    return {run.name if names.count(run.name) == 1 else str(run.path): run for run in runs}


def _significant(name: str, differences: Sequence[Difference | None]) -> str:
    """``Worst case: for the population, 1 of 2 significantly above it, 0 below.``"""
    counts = []
    for kind in dict.fromkeys(d.kind for d in differences if d):
        found = [d for d in differences if d and d.kind == kind]
        above, below = (sum(ends) for ends in zip(*((d.low > 0, d.high < 0) for d in found), strict=True))
        of = f"{above} of {len(found)} significantly above it, {below} below"
        counts.append(f"{kind.phrase}{MARKS[kind]}, {of}" if kind else f"{len(found)} without an interval")
    return f"{name}: {'; '.join(counts)}." if counts else ""


@dataclass(frozen=True)
class _Rows:
    """Makes the tables of a comparison."""

    runs: dict[str, RunData]
    contenders: Sequence[Contender]
    counterpart: Counterpart
    baseline: str
    pairing: Pairing
    compared: list[Compared] = field(default_factory=list)  # with another defence

    def table(self, perturbation: Perturbation) -> Table:
        """A row for each contender that was evaluated under it."""
        lines = {
            name: [row for row in run.rows if row.perturbation == perturbation]
            for name, run in self.runs.items()
        }
        shown = [c for c in self.contenders if any(row.subject == c.subject for row in lines[c.run])]
        typed = chain(*(typed_attacks(run.manifest) for run in self.runs.values()))
        columns = columns_of([*chain(*lines.values())], typed=[*typed])
        build = {name: TableBuilder(run.rows, run.manifest.cases) for name, run in self.runs.items()}
        with_k = len({c.subject.k for c in self.contenders if c.subject.k is not None}) > 1
        rows, behind = [], []
        for contender in shown:
            name, subject = contender
            cells = tuple(build[name].cell(subject, perturbation, column) for column in columns)
            labels = (name, inference_text(subject, with_k=with_k), subject.checkpoint)
            row = TableRow(subject, labels if len(self.runs) > 1 else labels[1:], cells)
            row = self._with_differences(contender, row)
            rows.append(row)
            behind.append(self._compared(contender, perturbation, row))
        ends = TextTable.of(behind, _ENDS).without_empty(_ENDS)
        rows = [replace(row, ends=texts) for row, texts in zip(rows, ends.rows, strict=True)]
        heads = ("Run", "Defence", "Network") if len(self.runs) > 1 else ("Defence", "Network")
        title = f"Accuracy under attack: {perturbation_text(perturbation)}"
        return Table(title, perturbation, heads, columns, tuple(rows), ends.heads)

    def _with_differences(self, contender: Contender, row: TableRow) -> TableRow:
        """The row with the differences of its cells to the baseline."""
        other = self.counterpart(contender)
        if other is None:
            named = subject_text(contender.subject, with_k=True)
            why = f"{named} in {contender.run} has no counterpart in the baseline, {self.baseline}."
            self.pairing.reasons[why] = None
        if other is None or other == contender:
            return row
        cells = [
            replace(cell, difference=self.pairing.difference(contender, other, cell.line))
            if cell.line and not cell.attack  # the strongest others are different attacks
            else cell
            for cell in row.cells
        ]
        return replace(row, cells=tuple(cells))

    def _compared(self, contender: Contender, perturbation: Perturbation, row: TableRow) -> Compared:
        """What stands behind the cells of a row."""
        lines = ((cell.line, cell) for cell in row.cells if cell.line and not cell.attack)
        cells = {line.attack: (line, cell) for line, cell in lines if line.threat == WHOLE_BATCH}
        clean, worst = (cells[name][1].difference if name in cells else None for name in (CLEAN, ENSEMBLE))
        setting = Case(contender.subject, WHOLE_BATCH, perturbation, ENSEMBLE)
        judgements = (j for j in self.runs[contender.run].judgements if j.case == setting)
        verdict = next((j.verdict for j in judgements), None)
        gain, common = verdict.gain if verdict else None, 0
        other = self.counterpart(contender)
        different = other is None or not self.pairing.same_defence(contender, other)
        if other and other.subject.defence == STANDARD != contender.subject.defence:
            gain = worst
        elif other and different and worst and not of_base(contender, other):
            common = len(self.pairing.common_attacks(contender, other, cells[ENSEMBLE][0]))
        made = Compared(clean, worst, common, different, gain, str(verdict.name) if verdict else "")
        self.compared.extend([made] * different)
        return replace(made, worst=None) if gain is worst else made  # the gain says it already


def comparison_csv(comparison: RunComparison) -> str:
    """Table that ``--json`` prints of the accuracies, a line for each; empty fields for what there is not."""
    return csv_table(pd.json_normalize(comparison.as_data()["accuracies"]))
