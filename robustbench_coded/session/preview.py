"""What an evaluation would do, and how long that would take here, with nothing run and nothing written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.workers import worker_count
from robustbench_coded.evaluation.planning.cases import AttackCase
from robustbench_coded.evaluation.planning.extents import Extents, fill
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.results.manifest import load_manifest
from robustbench_coded.runs.folder import MANIFEST, read_run
from robustbench_coded.schema.controls import CLEAN
from robustbench_coded.session.evaluate import made_ready, planned_evaluation
from robustbench_coded.session.evaluation import unit_maker
from robustbench_coded.session.forecast import RowCosts, Seconds
from robustbench_coded.session.queue import Scope, in_table


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

    row: AttackCase
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
        images, seconds: of the rows that run in any case.
        open_seconds: the most that open verdicts may take beyond that; None for no limit.
        checks: whether checks may ask for further attacks, which are not in the sum.
        notes: what else the user should know.
    """

    path: Path
    rows: tuple[RowPreview, ...]
    images: int
    seconds: float
    open_seconds: float | None
    checks: bool
    notes: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """Plain JSON data; times in seconds."""
        return {
            "run": str(self.path),
            "rows": [
                {
                    **p.row.key.as_columns(),
                    "certain": p.certain,
                    "examples": p.examples,
                    "images": p.images,
                    "seconds": p.seconds,
                    "units": p.units,
                    "done": p.done,
                }
                for p in self.rows
            ],
            "images": self.images,
            "seconds": self.seconds,
            "open_seconds": self.open_seconds,
            "units": sum(p.units for p in self.rows if p.certain),
            "done": sum(p.done for p in self.rows),
            "checks": self.checks,
            "notes": list(self.notes),
        }


def preview(config: EvalConfig, in_memory: InMemory | None = None) -> Preview:
    """Loads and checks everything as ``evaluate`` does, plans it and times the networks.

    Raises:
        InputError: as ``evaluate`` would: the options, a checkpoint, the data or the folder are not usable.
    """
    config, prepared, path = made_ready(config, in_memory)
    going_on = (path / MANIFEST).exists() and not config.overwrite
    old = load_manifest(path) if going_on else None
    committed = frozenset() if old is None else frozenset(read_run(path, old.unit_ids)[1])
    prepared, planned, notes, _, scope, seconds = planned_evaluation(config, prepared, old, path)
    table = [case for case in planned if in_table(config, case)]
    if prepared.extents is not None:
        prepared = replace(prepared, extents=_extents(prepared, planned, table, scope, seconds))
    maker, workers = unit_maker(config, prepared), worker_count(config, prepared.context.device)
    rows = []
    for case in planned:
        units = maker.units(case)
        pending = [unit for unit in units if unit.id not in committed]
        rows.append(
            RowPreview(
                row=case,
                certain=(case in table and scope.table_seconds != 0) or case.attack == CLEAN,
                examples=prepared.examples_planned(config, case),
                images=sum(unit.images for unit in pending),
                seconds=sum(map(seconds.of, pending)) / workers,
                units=len(units),
                done=len(units) - len(pending),
            )
        )
    certain = [row for row in rows if row.certain]
    return Preview(
        path=path,
        rows=tuple(rows),
        images=sum(row.images for row in certain),
        seconds=sum(row.seconds for row in certain),
        open_seconds=scope.verdict_seconds,
        checks=config.checks,
        notes=(*prepared.notes, *notes),
    )


def _extents(
    prepared: PreparedEvaluation,
    planned: Sequence[AttackCase],
    table: Sequence[AttackCase],
    scope: Scope,
    seconds: Seconds,
) -> Extents:
    """How far rows are likely to run: those of the table as far as its time goes, others to the first look."""
    assert prepared.extents is not None
    ends, first = prepared.extents.ends, prepared.extents.first
    if scope.table_seconds is None:
        return prepared.extents
    reached = dict.fromkeys(planned, first)
    if scope.table_seconds:
        reached |= fill(table, {}, ends, RowCosts(prepared, seconds).of, scope.table_seconds)
    return Extents(ends, reached)
