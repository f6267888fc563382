"""What an evaluation would do, and how long that would take here, with nothing run and nothing written."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.planning.second_stage import in_two_stages
from robustbench_coded.results.manifest import load_manifest
from robustbench_coded.runs.folder import MANIFEST, read_run
from robustbench_coded.runs.perturbation_store import PerturbationStore
from robustbench_coded.session.evaluate import made_ready
from robustbench_coded.session.forecast import forecast
from robustbench_coded.session.further_waves import further_units, likely_spared
from robustbench_coded.session.listener import Forecast
from robustbench_coded.session.manifest import checked_against, new_manifest
from robustbench_coded.session.plans import make_plan, rows_waiting_for_time, unit_maker
from robustbench_coded.session.submitted_later import submitted_later
from robustbench_coded.session.within_time import Deadline


@dataclass(frozen=True)
class RowPreview:
    """One row of the summary before it is measured.

    Attributes:
        examples: how many it scores.
        images: image gradients that are still to be computed, about; a forward alone counts as a third.
        seconds: one worker's, for these.
        units, done: pieces of work, and how many of them an earlier evaluation has committed.
    """

    row: AttackCase
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
        rows: in the order in which they would run.
        forecast: the sum of them and of what is submitted afterwards, shared out over the workers.
        checks: whether checks may ask for further attacks, which are not in the sum.
        notes: what else the user should know.
    """

    path: Path
    rows: tuple[RowPreview, ...]
    forecast: Forecast
    checks: bool
    notes: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """Plain JSON data; times in seconds."""
        return {
            "run": str(self.path),
            "rows": [
                {
                    **p.row.key.as_columns(),
                    "examples": p.examples,
                    "images": p.images,
                    "seconds": p.seconds,
                    "units": p.units,
                    "done": p.done,
                }
                for p in self.rows
            ],
            "images": self.forecast.images,
            "seconds": self.forecast.seconds,
            "units": self.forecast.units,
            "done": self.forecast.done,
            "checks": self.checks,
            "notes": list(self.notes),
        }


def preview(config: EvalConfig, in_memory: InMemory | None = None) -> Preview:
    """Loads and checks everything as ``evaluate`` does, plans it and times one forward and backward.

    Raises:
        InputError: as ``evaluate`` would: the options, a checkpoint, the data or the folder are not usable.
    """
    deadline = None if config.time is None else Deadline(config.time, time.monotonic())
    config, prepared, path = made_ready(config, in_memory, deadline)
    metadata: dict[str, dict] = {}
    going_on = (path / MANIFEST).exists() and not config.overwrite
    if going_on:
        old = load_manifest(path)
        prepared = prepared.resumed_from(old)
        metadata = read_run(path, old.unit_ids)[1]
    plan = make_plan(config, prepared)
    if going_on:
        checked_against(old, new_manifest(config, prepared, plan), path)
    pending = [unit for unit in plan.units if unit.id not in metadata]
    following: Sequence[Unit] = ()
    spared: Collection[AttackCase] = ()
    if deadline is None and config.until is None:  # else what follows depends on what is left
        maker, store = unit_maker(config, prepared), PerturbationStore(path)
        first, waiting = in_two_stages(config, plan.rows)
        spared = likely_spared(prepared, waiting)
        following = submitted_later(prepared, plan.only(first), maker, metadata, store)
        following += further_units(prepared, first, (), maker, metadata)
    expected = forecast(prepared, plan, pending, following=following, spared=spared)
    return Preview(
        path=path,
        rows=tuple(
            _rows(plan, frozenset(metadata), expected, lambda row: prepared.examples_planned(config, row))
        ),
        forecast=expected,
        checks=config.checks,
        notes=(*prepared.notes, *plan.notes, *_waiting(rows_waiting_for_time(config, prepared))),
    )


def _waiting(rows: Sequence[AttackCase]) -> list[str]:
    """That these rows run only while --time has something left."""
    names = ", ".join(dict.fromkeys(row.attack for row in rows))
    said = (
        f"While --time lasts, {names} follow on subjects whose verdict is open, most damage per image first."
    )
    return [said] if rows else []


def _rows(
    plan: Plan, committed: frozenset[str], expected: Forecast, examples: Callable[[AttackCase], int]
) -> Iterator[RowPreview]:
    for row in plan.rows:
        units = [unit for unit in plan.units if unit.row == row]
        pending = [unit for unit in units if unit.id not in committed]
        yield RowPreview(
            row=row,
            examples=examples(row),
            images=sum(unit.images for unit in pending),
            seconds=sum(map(expected.likely, pending)),
            units=len(units),
            done=len(units) - len(pending),
        )
