"""How much lies ahead and how long it takes here, before anything runs."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from robustbench_coded.evaluation.options.workers import worker_count
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.plan import Plan
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.session.early_stops import likely_shares
from robustbench_coded.session.listener import Forecast
from robustbench_coded.session.unit_seconds import unit_seconds


def forecast(
    prepared: PreparedEvaluation,
    plan: Plan,
    pending: Sequence[Unit],
    again: Sequence[Unit] = (),
    following: Sequence[Unit] = (),
    spared: Collection[AttackCase] = (),
) -> Forecast:
    """Images still to go and the seconds they take.

    The seconds are fewer where attacks stop early, as far as a pilot on a few images tells.

    Args:
        again: units whose perturbed inputs are made again first.
        following: what is likely to run later, in seconds alone.
        spared: rows of the plan that are likely not to run, and so take no seconds.
    """
    ahead = [*again, *pending]
    workers = min(worker_count(prepared.setup.config, prepared.context.device), max(1, len(pending)))
    made = Forecast(
        units=len(pending),
        images=sum(unit.images for unit in ahead),
        done=len(plan.units) - len(pending),
        seconds=0.0,
        of=partial(unit_seconds, prepared),
        shares=likely_shares(prepared, dict.fromkeys(unit.row for unit in (*ahead, *following))),
        again=len(again),
        follows=len(following),
    )
    likely = [unit for unit in (*ahead, *following) if unit.row not in spared]
    return replace(made, seconds=sum(map(made.likely, likely)) / workers)
