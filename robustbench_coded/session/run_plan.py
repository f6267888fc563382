"""Computes and commits the units of a plan that are neither committed nor failed yet."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

from robustbench_coded.engine.run import Engine
from robustbench_coded.engine.unit_time import limit_for
from robustbench_coded.evaluation.execution.results import UnitFailure, UnitResult
from robustbench_coded.evaluation.options.workers import worker_count
from robustbench_coded.evaluation.planning.cases import Unit, sources_of
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.runs.adversarials import encoded
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.runs.perturbation_store import PerturbationStore
from robustbench_coded.session.forecast import Forecast, Seconds
from robustbench_coded.session.listener import Listener
from robustbench_coded.session.perturbations import (
    kept_for_later,
    make_again,
    to_make_again,
    with_perturbations,
)

NO_INPUTS = "the perturbed inputs that it submits could not be made again"


@dataclass
class Done:
    """What became of units so far, by id: the metadata of those that are committed, and the failures."""

    metadata: dict[str, dict]
    failures: dict[str, UnitFailure] = field(default_factory=dict)


def run_plan(
    engine: Engine,
    folder: RunFolder,
    prepared: PreparedEvaluation,
    plan: Plan,
    done: Done,
    store: PerturbationStore,
    listener: Listener,
    seconds: Seconds,
) -> None:
    """Computes the units of a plan; ``done`` gets what became of each, ``store`` what they perturbed."""
    config = prepared.setup.config
    pending = [unit for unit in plan.units if unit.id not in done.metadata and unit.id not in done.failures]
    again = to_make_again(pending, store)
    listener.planned(plan, forecast(prepared, plan, pending, again, seconds))
    limit = limit_for(config.unit_timeout, seconds.of)
    make_again(again, store, engine, limit, listener.inputs_made)
    pending = with_perturbations(pending, store, prepared.context)
    for unit in pending:
        if sources_of(unit) and unit.submitted is None:
            _failed(folder, UnitFailure(unit, NO_INPUTS, 0), done, listener)
    ready = [kept_for_later(unit) for unit in pending if unit.id not in done.failures]
    with closing(engine.run(ready, limit)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, UnitFailure):
                _failed(folder, outcome, done, listener)
                continue
            kept = encoded(outcome.adversarials) if config.keeps_adversarials else None
            if kept is None:
                store.put(outcome.unit.id, outcome.adversarials)
            folder.commit(
                outcome.unit.id, outcome.rows, outcome.metadata, outcome.timing, kept, outcome.pictures
            )
            done.metadata[outcome.unit.id] = outcome.metadata
            _announce(listener, outcome)


def forecast(
    prepared: PreparedEvaluation,
    plan: Plan,
    pending: Sequence[Unit],
    again: Sequence[Unit],
    seconds: Seconds,
) -> Forecast:
    """Images still to go and the seconds they take, shared out over the workers."""
    ahead = [*again, *pending]
    workers = min(worker_count(prepared.setup.config, prepared.context.device), max(1, len(pending)))
    return Forecast(
        units=len(pending),
        images=sum(unit.images for unit in ahead),
        done=len(plan.units) - len(pending),
        seconds=sum(map(seconds.of, ahead)) / workers,
        again=len(again),
    )


def _failed(folder: RunFolder, failure: UnitFailure, done: Done, listener: Listener) -> None:
    record = {"error": failure.error, "attempts": failure.attempts, "details": failure.details}
    folder.record_failure(failure.unit.id, record)
    done.failures[failure.unit.id] = failure
    listener.unit_failed(failure.unit, failure.error)


def _announce(listener: Listener, result: UnitResult) -> None:
    counts = result.metadata
    listener.unit_done(result.unit, counts.get("right_scoring", 0), counts.get("answers_scoring", 0))
