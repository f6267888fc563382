"""Several runs side by side: every subject's accuracies, and their differences to a baseline where they pair.

Two subjects are paired over the examples, batches and draws that both have; where runs do not share them, the
comparison says so.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from robustbench_coded.errors import InputError
from robustbench_coded.reports.compare.baseline import Contender, Counterpart, baseline_of
from robustbench_coded.reports.compare.incompatibilities import incompatibilities_of
from robustbench_coded.reports.compare.pairing import Pairing
from robustbench_coded.reports.run.tables import Cell, Table, TableBuilder, TableRow, by_inference, columns_of
from robustbench_coded.reports.text.formatting import budget_text, inference_text
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.results.run import Run, load_run
from robustbench_coded.schema.case import BudgetKey, SubjectKey

LEGEND = (
    "Accuracy in percent on fresh draws of the defence, with its 95% interval; below it the paired "
    "difference from the same attack on the baseline in points, bold where its interval excludes 0. An "
    "accuracy in bold is that of the strongest single attack of its threat model."
)


class Named(Protocol):
    """A run of any kind.

    Attributes:
        path: its folder. name: the folder's own name.
    """

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str: ...


_Named = TypeVar("_Named", bound=Named)


@dataclass(frozen=True)
class Comparison:
    """What is said about several runs.

    Attributes:
        runs: name -> run, in the order given.
        baseline: the baseline in words.
        tables: one per budget; cells carry the difference to the baseline where it could be formed.
        incompatibilities: what the runs do not share, one sentence each.
        unpaired: why differences could not be formed, one sentence each.
    """

    runs: dict[str, Run]
    baseline: str
    tables: tuple[Table, ...]
    incompatibilities: tuple[str, ...]
    unpaired: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """The comparison as JSON data: what ``--json`` prints."""
        cells = [
            {"table": table.title, **dict(zip(table.heads, row.labels, strict=True)), **_cell_data(cell)}
            for table in self.tables
            for row in table.rows
            for cell in row.cells
            if cell is not None
        ]
        return {
            "runs": {name: str(run.path) for name, run in self.runs.items()},
            "baseline": self.baseline,
            "apart": list(self.incompatibilities),
            "unpaired": list(self.unpaired),
            "accuracies": cells,
        }


def compare(paths: Sequence[str | Path], baseline: str | None = None) -> Comparison:
    """Compares all subjects of some run folders.

    Args:
        paths: run folders.
        baseline: name of a run, a checkpoint or a defence; None takes the first run, or standard inference
            where there is one run alone.

    Raises:
        InputError: not a run folder, the same one twice, or a baseline that names nothing.
    """
    runs = named_runs([load_run(path) for path in paths])
    contenders = [Contender(name, s) for name, run in runs.items() for s in _subjects(run)]
    counterpart, words = baseline_of(
        {name: str(run.path) for name, run in runs.items()}, contenders, baseline
    )
    pairing = Pairing(runs)
    asked = {budget for run in runs.values() for budget in run.manifest.judged_budgets}
    found = dict.fromkeys(line.budget for run in runs.values() for line in run.rows if line.budget in asked)
    # Runs may have been made in any order; of each norm the smallest eps comes first.
    kinds = list(dict.fromkeys((budget.norm, budget.eps_space) for budget in found))
    budgets = sorted(found, key=lambda budget: (kinds.index((budget.norm, budget.eps_space)), budget.eps))
    tables = [_table(runs, contenders, budget, counterpart, words, pairing) for budget in budgets]
    return Comparison(runs, words, tuple(tables), tuple(incompatibilities_of(runs)), tuple(pairing.reasons))


def run_text_table(comparison: Comparison) -> TextTable:
    """What each run was made on."""
    rows = []
    for name, run in comparison.runs.items():
        identity, data = run.manifest.identity, run.manifest.data
        made_on = (data.name, data.examples, identity.seed, identity.last_batch)
        rows.append((name, *map(str, made_on)))
    numbers = frozenset({"Examples", "Seed"})
    return TextTable(("Run", "Data", "Examples", "Seed", "Last batch"), tuple(rows), numbers)


def _cell_data(cell: Cell) -> dict[str, Any]:
    return {
        **asdict(cell.line),
        "difference": cell.difference and asdict(cell.difference),
        "paper": cell.paper,
    }


def named_runs(runs: Sequence[_Named]) -> dict[str, _Named]:
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


def _subjects(run: Run) -> list[SubjectKey]:
    return by_inference(list(dict.fromkeys(line.subject for line in run.rows)))


def _table(
    runs: dict[str, Run],
    contenders: Sequence[Contender],
    budget: BudgetKey,
    counterpart: Counterpart,
    baseline: str,
    pairing: Pairing,
) -> Table:
    lines = {name: run.rows for name, run in runs.items()}
    under = [line for found in lines.values() for line in found if line.budget == budget]
    columns = columns_of(under)
    with_k = len({c.subject.k for c in contenders if c.subject.k is not None}) > 1
    build = {name: TableBuilder(run, lines[name]) for name, run in runs.items()}
    rows = []
    for contender in contenders:
        name, subject = contender
        if not any(line.subject == subject and line.budget == budget for line in lines[name]):
            continue
        other = counterpart(contender)
        cells = [build[name].cell(subject, budget, column) for column in columns]
        if other is None:
            pairing.without_counterpart(contender, baseline)
        elif other != contender:
            cells = [_with_difference(cell, contender, other, pairing) for cell in cells]
        labels = (name, inference_text(subject, with_k=with_k), subject.checkpoint)
        rows.append(TableRow(subject, labels if len(runs) > 1 else labels[1:], tuple(cells)))
    heads = ("Run", "Inference", "Checkpoint") if len(runs) > 1 else ("Inference", "Checkpoint")
    return Table(f"Accuracy under attack: {budget_text(budget)}", budget, heads, columns, tuple(rows))


def _with_difference(cell: Cell | None, mine: Contender, other: Contender, pairing: Pairing) -> Cell | None:
    return cell and replace(cell, difference=pairing.difference(mine, other, cell.line))
