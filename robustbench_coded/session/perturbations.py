"""Brings stored perturbed inputs to the units that submit them; makes them again where they are missing."""

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import torch

from robustbench_coded.engine.run import Engine
from robustbench_coded.evaluation.execution.results import UnitResult
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import Unit, sources_of
from robustbench_coded.evaluation.planning.submitted_inputs import SubmittedInputs
from robustbench_coded.runs.adversarials import EVERY, Evaluation
from robustbench_coded.runs.perturbation_store import PerturbationStore
from robustbench_coded.schema.controls import CONTROLS


def kept_for_later(unit: Unit) -> Unit:
    """The unit with its perturbed inputs wanted back, if they are of the kind that is submitted elsewhere."""
    row = unit.row
    wanted = row.attack not in CONTROLS and not sources_of(unit) and not row.for_check
    wanted = wanted and unit.replicate == 0 and str(row.threat) == "batch/unknown"
    return replace(unit, keep=True) if wanted else unit


def to_make_again(
    units: Sequence[Unit], store: PerturbationStore, runs_before: Collection[str] = ()
) -> list[Unit]:
    """The attacks whose perturbed inputs these units submit and the store lacks, as units without a score.

    Args:
        runs_before: ids of units that will have run, and stored what they perturbed.
    """
    sources = {source.id: source for unit in units for several in sources_of(unit) for source in several}
    return [
        replace(unit, keep=True, scored=False)
        for unit in sources.values()
        if unit.id not in runs_before and unit.id not in store
    ]


def make_again(
    again: Sequence[Unit],
    store: PerturbationStore,
    engine: Engine,
    limit: Callable[[Unit], float],
    made: Callable[[Unit, int], None],
) -> None:
    """Puts perturbed inputs into the store; named streams of random numbers make them what they were.

    Args:
        limit: seconds that a unit may take.
        made: is told each unit that is through, and how many of them are.
    """
    with closing(engine.run(again, limit)) as outcomes:
        for number, outcome in enumerate(outcomes, start=1):
            if isinstance(outcome, UnitResult):
                store.put(outcome.unit.id, outcome.adversarials, whatever_the_size=True)
            made(outcome.unit, number)


def with_perturbations(units: Sequence[Unit], store: PerturbationStore, context: WorkerContext) -> list[Unit]:
    """The units, those that submit perturbed inputs with these at hand.

    A unit whose inputs can't be had comes back without, and fails.
    """
    return [_with_inputs(unit, store, context) for unit in units]


def _with_inputs(unit: Unit, store: PerturbationStore, context: WorkerContext) -> Unit:
    sources = sources_of(unit)
    if not sources or any(source.id not in store for several in sources for source in several):
        return unit
    return replace(unit, submitted=SubmittedInputs(partial(_read, unit, store, context)))


def _read(unit: Unit, store: PerturbationStore, context: WorkerContext) -> list[dict[int, Evaluation]]:
    """For each source of a unit's row the perturbed inputs of the unit's batches, by batch."""
    return [_of_source(unit, several, store, context) for several in sources_of(unit)]


def _of_source(
    unit: Unit, several: Sequence[Unit], store: PerturbationStore, context: WorkerContext
) -> dict[int, Evaluation]:
    """A source's perturbed inputs in the batches of a unit.

    Where both have the same batches, a batch is what the attack made of it, inputs that only fill it up
    included. Elsewhere each example brings its own perturbed input to wherever it stands.
    """
    theirs = context.batches(several[0].row.subject, 0)
    ours = context.batches(unit.row.subject, 0)
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
            brought[index] = Evaluation(index, EVERY, EVERY, torch.tensor(slots), x)
    return brought
