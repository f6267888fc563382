"""Computes and commits the units of a plan that are neither committed nor failed yet; brings stored
perturbed inputs to the units that submit them, made again where they are missing.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from robustbench_coded.evaluation.engine.run import Engine
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import SubmittedInputs, Unit, sources_of
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.runs.adversarials import EVERY, PerturbationStore, PerturbedBatch, encoded
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.schema.case import WHOLE_BATCH
from robustbench_coded.schema.words import CONTROLS


def _read(unit: Unit, store: PerturbationStore, context: WorkerContext) -> list[dict[int, PerturbedBatch]]:
    """For each source of a unit's case the perturbed inputs of the unit's batches, by batch."""
    return [_of_source(unit, several, store, context) for several in sources_of(unit)]


def _of_source(
    unit: Unit, several: Sequence[Unit], store: PerturbationStore, context: WorkerContext
) -> dict[int, PerturbedBatch]:
    """A source's perturbed inputs in the batches of a unit.

    Where both have the same batches, a batch is what the attack made of it, inputs that only fill it up
    included. Elsewhere each example brings its own perturbed input to wherever it stands.
    """
    theirs, ours = context.batches(several[0].case.subject), context.batches(unit.case.subject)
    wanted = {index for group in unit.groups for index in group}
    found = [evaluation for source in several for evaluation in store.get(source.id) or ()]
    if theirs == ours:
        return {evaluation.batch: evaluation for evaluation in found if evaluation.batch in wanted}
    by_example = {
        theirs[evaluation.batch].members[slot]: x
        for evaluation in found
        for slot, x in zip(evaluation.slots.tolist(), evaluation.x, strict=True)
        if slot < theirs[evaluation.batch].scored
    }
    brought = {}
    for index in sorted(wanted):
        slots = [slot for slot, member in enumerate(ours[index].members) if member in by_example]
        if slots:
            x = torch.stack([by_example[ours[index].members[slot]] for slot in slots])
            brought[index] = PerturbedBatch(index, EVERY, EVERY, torch.tensor(slots), x)
    return brought


NO_INPUTS = "the perturbed inputs that it submits could not be made again"


@dataclass
class Done:
    """What became of units so far, by id: the metadata of those that are committed, and the failures."""

    metadata: dict[str, dict[str, Any]]
    failures: dict[str, UnitFailure] = field(default_factory=dict)


def run_plan(
    engine: Engine,
    folder: RunFolder,
    prepared: PreparedEvaluation,
    plan: Plan,
    done: Done,
    store: PerturbationStore,
    listener: Listener,
    later: int = 0,
) -> None:
    """Computes the units of a plan; ``done`` gets what became of each, ``store`` what they perturbed.

    Args:
        later: image gradients of what is known to run after it.
    """
    keeps_adversarials = prepared.setup.conditions.keeps_adversarials
    pending = [unit for unit in plan.units if unit.id not in done.metadata and unit.id not in done.failures]
    for unit in plan.units:  # of an interrupted run, too
        if fitted := done.metadata.get(unit.id, {}).get("group_images"):
            prepared.context.setup.fitting[unit.case.subject.checkpoint] = fitted
    sources = {source.id: source for unit in pending for several in sources_of(unit) for source in several}
    # Named streams of random numbers make perturbed inputs what they were.
    again = [replace(unit, keep=True, scored=False) for unit in sources.values() if unit.id not in store]
    ahead = [*again, *pending]
    listener.planned(plan, later + sum(unit.images for unit in ahead), again=len(again))
    with closing(engine.run(again)) as outcomes:
        for number, outcome in enumerate(outcomes, start=1):
            if isinstance(outcome, UnitResult):
                store.put(outcome.unit.id, outcome.adversarials, whatever_the_size=True)
            listener.inputs_made(outcome.unit, number)
    ready = []
    for unit in pending:
        if any(source.id not in store for several in sources_of(unit) for source in several):
            _failed(folder, UnitFailure(unit, NO_INPUTS, 0), done, listener)
        elif sources_of(unit):
            read = partial(_read, unit, store, prepared.context)
            ready.append(replace(unit, submitted=SubmittedInputs(read)))
        else:  # what is submitted elsewhere comes back with the outcomes
            submitted = unit.case.threat == WHOLE_BATCH and not unit.case.for_check
            keep = unit.keep or (submitted and unit.case.attack not in CONTROLS)
            ready.append(replace(unit, keep=keep))
    with closing(engine.run(ready)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, UnitFailure):
                _failed(folder, outcome, done, listener)
                continue
            kept = None
            if outcome.adversarials and keeps_adversarials:
                kept = encoded(outcome.adversarials)
            elif outcome.adversarials:
                store.put(outcome.unit.id, outcome.adversarials)
            folder.commit(
                outcome.unit.id, outcome.rows, outcome.metadata, outcome.timing, kept, outcome.pictures
            )
            counts = done.metadata[outcome.unit.id] = outcome.metadata
            right, answers = (counts.get(f"{what}_scoring", 0) for what in ("right", "answers"))
            listener.unit_done(outcome.unit, right, answers)


def _failed(folder: RunFolder, failure: UnitFailure, done: Done, listener: Listener) -> None:
    record = {"error": failure.error, "attempts": failure.attempts, "details": failure.details}
    folder.record_failure(failure.unit.id, record)
    done.failures[failure.unit.id] = failure
    listener.unit_failed(failure.unit, failure.error)
