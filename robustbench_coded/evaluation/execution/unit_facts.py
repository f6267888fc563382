"""What the options and the row of a unit say about how it runs."""

from torch import Tensor

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.evaluation.execution.worker_context import Workbench
from robustbench_coded.evaluation.planning.batches import scored_slots
from robustbench_coded.evaluation.planning.plan import Row, Unit


def seed_of(bench: Workbench, unit: Unit) -> int:
    """The seed of the unit's streams: each replicate has its own."""
    return bench.setup.config.seed + unit.replicate


def draws_to_score(bench: Workbench, row: Row) -> list[tuple[str, list[int]]]:
    """Which draws a row is scored on, by purpose; a deterministic defence has only one answer."""
    if not row.subject.randomised:
        return [("scoring", [0])]
    config = bench.setup.config
    return [("selection", list(range(config.selection_draws))), ("scoring", list(range(config.draws)))]


def separate_attacks(bench: Workbench) -> int:
    """How many scoring draws are attacked one by one under known randomness."""
    return min(bench.setup.config.aware_attacks, bench.setup.config.draws)


def budget_of(bench: Workbench, row: Row, eps_scale: Tensor | None = None) -> PerturbationBudget:
    """The budget of a row, in the space that its eps is measured in."""
    normalized = row.eps_space == "normalized"
    deviation = bench.checkpoint(row.subject.checkpoint).deviation if normalized else None
    return PerturbationBudget(row.norm, row.eps, row.eps_space, deviation, eps_scale)  # type: ignore[arg-type]


def query_budget_of(bench: Workbench, row: Row, inputs: int) -> int | None:
    """Images forwarded and differentiated that an attack on so many inputs may cost; None for any number.

    Inputs that only fill a batch up cost as much as those that are scored, and are paid for by them: no row
    costs more for each scored example than was asked for, and all of its batches are attacked alike.
    """
    budget = bench.setup.config.budget
    if budget is None:
        return None
    if row.threat.one_victim:
        return budget * inputs
    batches = bench.batches(row.subject, 0)
    scored = sum(len(scored_slots(row.threat, batch, bench.setup.config.seed)) for batch in batches)
    return budget * inputs * scored // sum(batch.k for batch in batches)
