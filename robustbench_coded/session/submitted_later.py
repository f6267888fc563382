"""What an evaluation is likely to submit once its attacks have run, for the forecast.

submitted_later(prepared, plan, maker, metadata, store) -> [Unit]
"""

from collections.abc import Mapping
from typing import Any

from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.evaluation.planning.measured import measured_attacks
from robustbench_coded.evaluation.planning.plan import Plan, UnitMaker
from robustbench_coded.evaluation.planning.resubmission import resubmissions
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.runs.perturbation_store import PerturbationStore
from robustbench_coded.session.early_stops import fallen
from robustbench_coded.session.hidden_sources import hidden_sources
from robustbench_coded.session.perturbations import to_make_again

# Stand for what an attack will leave that has not run: something that is submitted elsewhere, or nothing.
_SOMETHING = {"answers_scoring": 1, "right_scoring": 1, "answers_selection": 1, "right_selection": 1}
_NOTHING = {**_SOMETHING, "right_scoring": 0, "right_selection": 0}


def submitted_later(
    prepared: PreparedEvaluation,
    plan: Plan,
    maker: UnitMaker,
    metadata: Mapping[str, Mapping[str, Any]],
    store: PerturbationStore,
) -> list[Unit]:
    """The units that submit perturbed inputs, and those that make them again if an earlier run made them.

    Which attacks will be the strongest is not known; they cost much the same. Where standard inference keeps
    nothing, its defences are taken to keep nothing. What checks ask for is left out.

    Args:
        metadata: of the units that are committed, by id.
    """
    lost = fallen(prepared, plan.rows)
    running = {
        unit.id: _NOTHING if (unit.row.subject.checkpoint, unit.row.budget) in lost else _SOMETHING
        for unit in plan.units
        if unit.id not in metadata
    }
    if not running:
        return []
    measured = measured_attacks(plan.rows, plan.units, {**running, **metadata})
    hidden = hidden_sources(prepared.context, plan.rows)
    rows, _ = resubmissions(measured, hidden, maker, prepared.context.levels)
    units = [unit for row in rows for unit in maker.units(row) if unit.id not in metadata]
    return [*to_make_again(units, store, running), *units]
