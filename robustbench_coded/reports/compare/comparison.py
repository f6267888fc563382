"""Several runs side by side: every subject's accuracies, their differences to a baseline where they pair,
what these settle, and what the runs do not share; and all of it as CSV.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_coded.errors import InputError
from robustbench_coded.judge.run import Run, load_run
from robustbench_coded.reports.compare.pairing import Contender, Counterpart, Pairing, baseline_of, same_data
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
    TextTable,
    inference_text,
    perturbation_text,
    series,
    subject_text,
)
from robustbench_coded.schema.case import Perturbation
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.words import CLEAN, ENSEMBLE

SHARED: dict[str, Callable[[RunManifest], object]] = {
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


def incompatibilities_of(runs: dict[str, Run]) -> Iterator[str]:
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


LEGEND = (
    "Accuracy in percent on fresh draws of the defence, with its 95% interval; below it the paired "
    "difference from the same attack on the baseline in points, bold where its interval excludes 0, as one "
    "in twenty does by chance. An accuracy in bold: the strongest single attack of its threat model."
)


@dataclass(frozen=True)
class RunComparison:
    """Statements about several runs.

    Attributes:
        runs: name -> run, in the order given.
        baseline: the baseline in words.
        tables: one per perturbation; cells carry the difference to the baseline where it could be formed.
        incompatibilities: what the runs do not share, one sentence each.
        unpaired: why differences could not be formed, one sentence each.
    """

    runs: dict[str, Run]
    baseline: str
    tables: tuple[Table, ...]
    incompatibilities: tuple[str, ...]
    unpaired: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The baseline, and how many clean and robust accuracies differ significantly from its own."""
        cells = [cell for table in self.tables for cell in table.cells]
        above, below = [], []
        for attack, name in ((CLEAN, "clean"), (ENSEMBLE, "robust")):
            found = [c.difference for c in cells if c.line and c.line.attack == attack and c.difference]
            above.append(f"{sum(d.low > 0 for d in found)} of {len(found)} {name}")
            below.append(f"{sum(d.high < 0 for d in found)} {name}")
        counts = f"Significantly above it: {series(above)} accuracies; below it: {series(below)}."
        return f"Baseline: {self.baseline}. {counts}"

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
    runs = _named([load_run(path) for path in paths])
    contenders = [
        Contender(name, s) for name, run in runs.items() for s in by_inference(subjects_of(run.rows))
    ]
    counterpart, words = baseline_of(
        {name: str(run.path) for name, run in runs.items()}, contenders, baseline
    )
    pairing = Pairing(runs)
    judged = {perturbation for run in runs.values() for perturbation in run.manifest.judged_perturbations}
    ordered = dict.fromkeys(
        line.perturbation for run in runs.values() for line in run.rows if line.perturbation in judged
    )
    # Runs may have been made in any order; of each norm the smallest eps comes first.
    kinds = list(dict.fromkeys((perturbation.norm, perturbation.eps_space) for perturbation in ordered))
    perturbations = sorted(
        ordered,
        key=lambda perturbation: (kinds.index((perturbation.norm, perturbation.eps_space)), perturbation.eps),
    )
    tables = [
        _table(runs, contenders, perturbation, counterpart, words, pairing) for perturbation in perturbations
    ]
    apart = tuple(incompatibilities_of(runs))
    return RunComparison(runs, words, tuple(tables), apart, tuple(pairing.reasons))


def run_text_table(comparison: RunComparison) -> TextTable:
    """Conditions of each run."""
    rows = []
    for name, run in comparison.runs.items():
        identity, data = run.manifest.identity, run.manifest.data
        made_on = (data.name, data.examples, identity.seed)
        rows.append((name, *map(str, made_on)))
    numbers = frozenset({"Examples", "Seed"})
    return TextTable(("Run", "Data", "Examples", "Seed"), tuple(rows), numbers)


def _cell_data(cell: TableCell) -> dict[str, Any]:
    line = cell.line
    assert line is not None
    figures = {name: value for name, value in asdict(line).items() if name != "case"}
    return {
        **line.case.as_columns(),
        **figures,
        "difference": cell.difference and asdict(cell.difference),
    }


def _named(runs: Sequence[Run]) -> dict[str, Run]:
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


def _table(
    runs: dict[str, Run],
    contenders: Sequence[Contender],
    perturbation: Perturbation,
    counterpart: Counterpart,
    baseline: str,
    pairing: Pairing,
) -> Table:
    lines = {name: run.rows for name, run in runs.items()}
    under = [line for group in lines.values() for line in group if line.perturbation == perturbation]
    columns = columns_of(under, typed=[name for run in runs.values() for name in typed_attacks(run.manifest)])
    with_k = len({c.subject.k for c in contenders if c.subject.k is not None}) > 1
    build = {name: TableBuilder(run.rows, run.manifest.cases) for name, run in runs.items()}
    rows = []
    for contender in contenders:
        name, subject = contender
        if not any(line.subject == subject and line.perturbation == perturbation for line in lines[name]):
            continue
        other = counterpart(contender)
        cells = [build[name].cell(subject, perturbation, column) for column in columns]
        if other is None:
            named = subject_text(subject, with_k=True)
            pairing.reasons[f"{named} in {name} has no counterpart in the baseline, {baseline}."] = None
        elif other != contender:
            cells = [
                replace(cell, difference=pairing.difference(contender, other, cell.line))
                if cell.line and not cell.attack  # which may be another one there
                else cell
                for cell in cells
            ]
        labels = (name, inference_text(subject, with_k=with_k), subject.checkpoint)
        rows.append(TableRow(subject, labels if len(runs) > 1 else labels[1:], tuple(cells)))
    heads = ("Run", "Defence", "Network") if len(runs) > 1 else ("Defence", "Network")
    return Table(
        f"Accuracy under attack: {perturbation_text(perturbation)}", perturbation, heads, columns, tuple(rows)
    )


def comparison_csv(comparison: RunComparison) -> str:
    """Table that ``--json`` prints of the accuracies, a line for each; empty fields for what there is not."""
    return csv_table(pd.json_normalize(comparison.as_data()["accuracies"]))
