"""Computes and commits the units of a plan that are neither committed nor failed yet; brings stored
perturbed inputs to the units that submit them, made again where they are missing.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from pyarrow import compute

from robustbench_coded.evaluation.engine.run import Engine
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import SubmittedInputs, Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.runs.adversarials import EVERY, PerturbationStore, PerturbedBatch, encoded
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.runs.log import Failed
from robustbench_coded.schema.case import WHOLE_BATCH
from robustbench_coded.schema.words import CONTROLS

NO_INPUTS = "the perturbed inputs that it submits could not be made again"


@dataclass
class Done:
    """The fate of units so far, by id: the metadata of those that are committed, and the failures."""

    metadata: dict[str, dict[str, Any]]
    failures: dict[str, UnitFailure] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """The means that units are computed with, and where they go.

    Attributes:
        done: gets what became of each. store: gets what they perturbed.
    """

    engine: Engine
    folder: RunFolder
    prepared: PreparedEvaluation
    done: Done
    store: PerturbationStore
    listener: Listener

    def commit(self, outcome: UnitResult) -> None:
        data, unit = None, outcome.unit
        if outcome.adversarials and self.prepared.setup.options.keeps_adversarials:
            data = encoded(outcome.adversarials)
        elif outcome.adversarials:
            self.store.put(unit.id, outcome.adversarials)
        self.folder.commit(unit.id, outcome.rows, outcome.metadata, outcome.timing, data)
        counts = self.done.metadata[unit.id] = outcome.metadata
        right, answers = (counts.get(f"{what}_scoring", 0) for what in ("right", "answers"))
        scored = outcome.rows.filter(compute.field("purpose") == "scoring")
        self.listener.unit_done(unit, right, answers, compute.count_distinct(scored["draw"]).as_py())

    def fail(self, failure: UnitFailure) -> None:
        self.folder.log(Failed(failure.unit.id, failure.error, failure.attempts, failure.details))
        self.done.failures[failure.unit.id] = failure
        self.listener.unit_failed(failure.unit, failure.error)


def run_plan(work: Work, plan: Plan) -> None:
    """Computes the units of a plan.

    Raises:
        TimeIsUp: at the deadline; units that have not come to their end are dropped.
    """
    done, context = work.done, work.prepared.context
    pending = [unit for unit in plan.units if unit.id not in done.metadata and unit.id not in done.failures]
    for unit in plan.units:  # of an interrupted run, too
        if fitted := done.metadata.get(unit.id, {}).get("group_images"):
            context.setup.fitting[unit.case.subject.checkpoint] = fitted
    sources = {source.id: source for unit in pending for several in unit.sources for source in several}
    # Named streams of random numbers make perturbed inputs what they were.
    lost = [replace(unit, keep=True, scored=False) for unit in sources.values() if unit.id not in work.store]
    planned = replace(plan, units=tuple(pending))
    work.listener.planned(planned, sum(unit.images for unit in (*lost, *pending)), remade=len(lost))
    with closing(work.engine.run(lost)) as outcomes:
        for number, outcome in enumerate(outcomes, start=1):
            if isinstance(outcome, UnitResult):
                work.store.put(outcome.unit.id, outcome.adversarials, whatever_the_size=True)
            work.listener.inputs_made(outcome.unit, number)
    ready = list(_with_inputs(work, pending))
    with closing(work.engine.run(ready)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, UnitFailure):
                work.fail(outcome)
            else:
                work.commit(outcome)


def _with_inputs(work: Work, pending: Sequence[Unit]) -> Iterator[Unit]:
    """The units that can run, those that submit perturbed inputs with these."""
    context = work.prepared.context
    for unit in pending:
        if any(source.id not in work.store for several in unit.sources for source in several):
            work.fail(UnitFailure(unit, NO_INPUTS, 0))
        elif unit.sources:
            read = partial(_read, unit, work.store, context)
            yield replace(unit, submitted=SubmittedInputs(read), sources=())
        else:  # what is submitted elsewhere comes back with the outcomes
            submitted = unit.case.threat == WHOLE_BATCH and unit.case.attack not in CONTROLS
            yield replace(unit, keep=unit.keep or submitted)


def _read(unit: Unit, store: PerturbationStore, context: WorkerContext) -> list[dict[int, PerturbedBatch]]:
    return [_of_source(unit, several, store, context) for several in unit.sources]


def _of_source(
    unit: Unit, several: Sequence[Unit], store: PerturbationStore, context: WorkerContext
) -> dict[int, PerturbedBatch]:
    """A source's perturbed inputs in the batches of a unit.

    Where both have the same batches, a batch is what the attack made of it, inputs that only fill it up
    included. Elsewhere each example brings its own perturbed input to wherever it stands, among clean ones if
    it is a victim.
    """
    theirs, ours = context.batches(several[0].case.subject), context.batches(unit.case.subject)
    one_victim = unit.case.threat.one_victim and not unit.random_batches
    wanted = {index for group in unit.groups for index in group}
    stored = [batch for source in several for batch in store.get(source.id) or ()]
    if theirs == ours and not one_victim:
        return {batch.batch: batch for batch in stored if batch.batch in wanted}
    by_example = {
        theirs[batch.batch].members[slot]: x
        for batch in stored
        for slot, x in zip(batch.slots.tolist(), batch.x, strict=True)
        if slot < theirs[batch.batch].scored
    }
    batches = {}
    for index in sorted(wanted):
        batch = context.batch(unit.case.subject, index)
        members = batch.members
        own = range(batch.k) if batch.victim is None else [batch.victim]
        if slots := [slot for slot in own if members[slot] in by_example]:
            x = torch.stack([by_example[members[slot]] for slot in slots])
            batches[index] = PerturbedBatch(index, EVERY, EVERY, torch.tensor(slots), x)
    return batches
