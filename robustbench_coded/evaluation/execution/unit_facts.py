"""What the options and the row of a unit say about how it runs."""

from torch import Tensor

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.batches import scored_slots
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit


def seed_of(context: WorkerContext, unit: Unit) -> int:
    """The seed of the unit's streams: each replicate has its own."""
    return context.setup.config.seed + unit.replicate


def draws_to_score(context: WorkerContext, row: AttackCase) -> list[tuple[str, list[int]]]:
    """Which draws a row is scored on, by purpose; a deterministic defence has only one answer."""
    if not row.subject.randomised:
        return [("scoring", [0])]
    config = context.setup.config
    return [("selection", list(range(config.selection_draws))), ("scoring", list(range(config.draws)))]


def separate_attacks(context: WorkerContext) -> int:
    """How many scoring draws are attacked one by one under known randomness."""
    return min(context.setup.config.aware_attacks, context.setup.config.draws)


def budget_of(context: WorkerContext, row: AttackCase, eps_scale: Tensor | None = None) -> PerturbationBudget:
    """The budget of a row, in the space that its eps is measured in."""
    normalized = row.eps_space == "normalized"
    deviation = context.checkpoint(row.subject.checkpoint).deviation if normalized else None
    return PerturbationBudget(row.norm, row.eps, row.eps_space, deviation, eps_scale)  # type: ignore[arg-type]


def query_budget_of(context: WorkerContext, row: AttackCase, inputs: int) -> int | None:
    """Images forwarded and differentiated that an attack on so many inputs may cost; None for any number.

    Inputs that only fill a batch up cost as much as those that are scored, and are paid for by them: no row
    costs more for each scored example than was asked for, and all of its batches are attacked alike.
    """
    budget = context.setup.config.budget
    if budget is None:
        return None
    if row.threat.one_victim:
        return budget * inputs
    batches = context.batches(row.subject, 0)
    scored = sum(len(scored_slots(row.threat, batch, context.setup.config.seed)) for batch in batches)
    return budget * inputs * scored // sum(batch.k for batch in batches)
