"""What an evaluation would do, and how long that would take here, with nothing run and nothing written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.evaluation.session.evaluate import made_ready
from robustbench_coded.evaluation.session.planning import Rates, planned_evaluation
from robustbench_coded.evaluation.session.policies import table_sizes
from robustbench_coded.evaluation.session.schedule import Evidence
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.runs.folder import MANIFEST, read_run
from robustbench_coded.schema.manifest import as_sentences
from robustbench_coded.schema.words import CLEAN


@dataclass(frozen=True)
class CasePreview:
    """A case before it is measured.

    Attributes:
        certain: whether it runs whatever the others find; else only while a verdict is open.
        examples: how many it scores.
        images: gradients that are still to be computed, about; a forward alone counts as a third.
        seconds: what these take, shared out over the workers.
        units, done: pieces of work, and how many of them an earlier evaluation has committed.
    """

    case: PlannedCase
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
        cases: in the order of tables.
        open_images: the most that open verdicts add: the cases that are not certain. What outcomes decide is
            not in it: checks, submissions, random batches and more examples.
        notes: what else the user should know.
    """

    path: Path
    cases: tuple[CasePreview, ...]
    open_images: int
    notes: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """Plain JSON data; times in seconds. Sums are over certain cases."""
        rows = [{**p.case.case.as_columns(), **vars(p)} for p in self.cases]
        for row in rows:
            del row["case"]
        sums = {
            name: sum(row[name] for row in rows if row["certain"])
            for name in ("images", "seconds", "units", "done")
        }
        return {
            "run": str(self.path),
            "rows": rows,
            **sums,
            "open_images": self.open_images,
            "notes": list(self.notes),
        }


def preview(config: EvalConfig, in_memory: InMemory | None = None) -> Preview:
    """Loads everything as ``evaluate`` does, plans it and times the networks.

    Before anything ran, networks are taken by names and shapes: ``evaluate`` looks at them and may refuse.

    Raises:
        InputError: the options, a checkpoint, the data or the folder are not usable.
    """
    prepared, path = made_ready(config, in_memory, glance=True)
    going_on = (path / MANIFEST).exists() and not config.overwrite
    old = load_manifest(path) if going_on else None
    committed = frozenset() if old is None else frozenset(read_run(path, old.unit_ids)[1])
    rates = Rates(prepared)
    evaluation = planned_evaluation(prepared, old, path, rates)
    plan, prepared = evaluation.plan, evaluation.prepared

    def pending(units: Sequence[Unit]) -> list[Unit]:
        return [unit for unit in units if unit.id not in committed]

    def furthest(case: PlannedCase, size: int) -> int:
        """No case runs less far than an earlier evaluation took it."""
        further = (larger for larger in reversed(plan.sizes) if larger > size and committed)
        return next((larger for larger in further if not pending(evaluation.units(case, larger))), size)

    table = {} if plan.ceilings.table == 0 else table_sizes(plan, Evidence())
    previews = []
    for case in plan.cases:
        size = furthest(case, table.get(case, plan.start))
        units = evaluation.units(case, size)
        left = pending(units)
        previews.append(
            CasePreview(
                case=case,
                certain=case in table or case.attack == CLEAN,
                examples=prepared.examples_planned(case, size),
                images=sum(unit.images for unit in left),
                seconds=rates.together(left),
                units=len(units),
                done=len(units) - len(left),
            )
        )
    maybe = sum(one.images for one in previews if not one.certain)
    ceiling = plan.ceilings.verdict
    most = maybe if ceiling is None else min(maybe, ceiling * len(plan.judged))
    return Preview(path, tuple(previews), most, tuple(as_sentences([*prepared.notes, *evaluation.notes])))
