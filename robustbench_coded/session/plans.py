"""Which rows an evaluation plans, and the units that they are cut into."""

from collections.abc import Sequence

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.measured import measured_attacks
from robustbench_coded.evaluation.planning.partition_choice import (
    CLEAN_PARTITIONS,
    chosen_for_partitions,
    clean_in_few_batches,
    partition_units,
)
from robustbench_coded.evaluation.planning.plan import Plan, UnitMaker, rows_for
from robustbench_coded.evaluation.planning.resubmission import resubmissions
from robustbench_coded.evaluation.planning.rounds import Rounds, RoundUnitMaker
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.results.run import load_run
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.session.hidden_sources import hidden_sources
from robustbench_coded.session.run_plan import Done


def make_plan(config: EvalConfig, prepared: PreparedEvaluation) -> Plan:
    """Rows and units of an evaluation; the same options, checkpoints and data give the same plan."""
    rows, notes = rows_for(config, prepared.subjects, prepared.eps)
    rows = [row for row in rows if row.key not in prepared.rows_waiting]
    return plan_of(rows, unit_maker(config, prepared), [*prepared.left_out, *notes])


def rows_waiting_for_time(config: EvalConfig, prepared: PreparedEvaluation) -> list[AttackCase]:
    """The rows that `make_plan` keeps back."""
    rows, _ = rows_for(config, prepared.subjects, prepared.eps)
    return [row for row in rows if row.key in prepared.rows_waiting]


def plan_of(rows: Sequence[AttackCase], maker: UnitMaker, notes: Sequence[str]) -> Plan:
    """These rows with their units; a row without any is left out, and a sentence says so."""
    units = {row: maker.units(row) for row in rows}
    empty = [
        f"{row.attack} on {row.subject.label} ({row.threat}) was not run: every batch is so small that it "
        "leaves no input to harm."
        for row in rows
        if not units[row]
    ]
    return Plan(
        tuple(row for row in rows if units[row]),
        tuple(unit for row in rows for unit in units[row]),
        tuple(dict.fromkeys([*notes, *empty])),
    )


def unit_maker(config: EvalConfig, prepared: PreparedEvaluation) -> UnitMaker:
    """What cuts the rows of this evaluation into units."""
    of = config, prepared.setup.examples, prepared.setup.group_images, prepared.fixed
    rounds = prepared.rounds
    if rounds is None and prepared.cut_at:  # what an earlier evaluation in rounds computed is taken over
        rounds = Rounds(prepared.setup.examples, prepared.cut_at)
    return UnitMaker(*of) if rounds is None else RoundUnitMaker(*of, rounds)


def submitted_rows(
    config: EvalConfig, prepared: PreparedEvaluation, plan: Plan, done: Done
) -> tuple[list[AttackCase], list[str]]:
    """The rows that submit what has been found so far elsewhere, and sentences on those left out."""
    known = {row.key for row in plan.rows}
    whole = plan.rows if prepared.rounds is None else prepared.rounds.whole(plan.rows)
    measured = measured_attacks(whole, plan.units, done.metadata)
    hidden = hidden_sources(prepared.context, plan.rows)
    levels = prepared.context.levels
    rows, left_out = resubmissions(measured, hidden, unit_maker(config, prepared), levels)
    return [row for row in rows if row.key not in known], left_out


def units_in_partitions(
    folder: RunFolder, config: EvalConfig, prepared: PreparedEvaluation, plan: Plan
) -> list[Unit]:
    """The units that score in many random batches what few batches left open or uncertain."""
    maker, examples = unit_maker(config, prepared), prepared.setup.examples
    run = load_run(folder.path)
    # In rounds of what has stopped, too: rows that ran afterwards may have widened its interval again.
    cases = chosen_for_partitions(run, plan.rows, together=prepared.rounds is None)
    clean = [case for case in clean_in_few_batches(run, plan.rows) if case not in cases]
    return [
        *(unit for case in cases for unit in partition_units(case, maker, examples)),
        *(unit for case in clean for unit in partition_units(case, maker, examples, _for_clean)),
    ]


def _for_clean(wanted: int, batches: int) -> int:
    return min(wanted, CLEAN_PARTITIONS)
