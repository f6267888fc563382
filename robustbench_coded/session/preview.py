"""What an evaluation would do, and how long that would take here, with nothing run and nothing written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.batches import Extents, fill
from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.results.run import load_manifest
from robustbench_coded.runs.folder import MANIFEST, read_run
from robustbench_coded.schema.words import CLEAN
from robustbench_coded.session import evaluate, forecast, queue


@dataclass(frozen=True)
class RowPreview:
    """One row of the summary before it is measured.

    Attributes:
        certain: whether it runs whatever the others find; else only while a verdict is open.
        examples: how many it scores.
        images: image gradients that are still to be computed, about; a forward alone counts as a third.
        seconds: what these take, shared out over the workers.
        units, done: pieces of work, and how many of them an earlier evaluation has committed.
    """

    row: PlannedCase
    certain: bool
    examples: int
    images: int
    seconds: float
    units: int
    done: int


@dataclass(frozen=True)
class Preview:
    """An evaluation before it runs.

    Attributes:
        path: the run folder that it would write, or go on with.
        rows: in the order of tables.
        open_seconds: the most that open verdicts add: the rows that are not certain, and more examples; 0
            where the others have that much less time. What outcomes decide is not in it: checks, submissions
            and random batches.
        notes: what else the user should know.
    """

    path: Path
    rows: tuple[RowPreview, ...]
    open_seconds: float
    notes: tuple[str, ...]

    @property
    def certain(self) -> list[RowPreview]:
        """The rows that run whatever the others find."""
        return [row for row in self.rows if row.certain]

    @property
    def seconds(self) -> float:
        """Of these rows."""
        return sum(row.seconds for row in self.certain)

    def as_data(self) -> dict[str, Any]:
        """Plain JSON data; times in seconds. Sums are over certain rows."""
        return {
            "run": str(self.path),
            "rows": [
                {
                    **p.row.case.as_columns(),
                    **{name: value for name, value in vars(p).items() if name != "row"},
                }
                for p in self.rows
            ],
            "images": sum(row.images for row in self.certain),
            "seconds": self.seconds,
            "open_seconds": self.open_seconds,
            "units": sum(row.units for row in self.certain),
            "done": sum(row.done for row in self.certain),
            "notes": list(self.notes),
        }


def preview(config: EvalConfig, in_memory: InMemory | None = None) -> Preview:
    """Loads and checks everything as ``evaluate`` does, plans it and times the networks.

    Raises:
        InputError: as ``evaluate`` would: the options, a checkpoint, the data or the folder are not usable.
    """
    prepared, path = evaluate.made_ready(config, in_memory)
    going_on = (path / MANIFEST).exists() and not config.overwrite
    old = load_manifest(path) if going_on else None
    committed = frozenset() if old is None else frozenset(read_run(path, old.unit_ids)[1])
    prepared, planned, notes, _, scope, seconds = evaluate.planned_evaluation(prepared, old, path)
    costs = forecast.RowCosts(prepared, seconds)
    table = [case for case in planned if queue.in_table(prepared.config, case)]

    def pending(units: Sequence[Unit]) -> list[Unit]:
        return [unit for unit in units if unit.id not in committed]

    def taken(units: Sequence[Unit]) -> float:
        return sum(map(seconds.of, pending(units))) / costs.workers

    if prepared.extents is not None:
        prepared = replace(
            prepared, extents=_extents(prepared.extents, planned, table, scope, costs, pending)
        )
    maker = prepared.maker(prepared.extents)
    rows = []
    for case in planned:
        units = maker.units(case)
        rows.append(
            RowPreview(
                row=case,
                certain=(case in table and scope.table_seconds != 0) or case.attack == CLEAN,
                examples=prepared.examples_planned(case),
                images=sum(unit.images for unit in pending(units)),
                seconds=taken(units),
                units=len(units),
                done=len(units) - len(pending(units)),
            )
        )
    found = Preview(path, tuple(rows), 0.0, (*prepared.notes, *notes))
    if scope.table_seconds:
        return found
    everything = prepared.maker(None if prepared.extents is None else Extents(prepared.extents.ends))
    most = sum(taken(everything.units(case)) for case in planned) - found.seconds
    limit = most if scope.verdict_seconds is None else min(most, scope.verdict_seconds)
    return replace(found, open_seconds=max(0.0, limit))


def _extents(
    extents: Extents,
    planned: Sequence[PlannedCase],
    table: Sequence[PlannedCase],
    scope: queue.Scope,
    costs: forecast.RowCosts,
    pending: Callable[[Sequence[Unit]], list[Unit]],
) -> Extents:
    """How far rows are likely to run: those of the table as far as its time goes, others to the first look.

    None runs less far than an earlier evaluation took it.
    """
    ends = extents.ends
    if scope.table_seconds is None:
        return extents
    reached = dict.fromkeys(planned, extents.first)
    if scope.table_seconds:
        reached |= fill(table, {}, ends, costs.of, scope.table_seconds)
    for case in planned:
        further = range(len(ends), reached[case], -1)
        done = (rounds for rounds in further if not pending(costs.maker(rounds).units(case)))
        reached[case] = next(done, reached[case])
    return Extents(ends, reached)
