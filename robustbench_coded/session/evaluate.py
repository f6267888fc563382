"""One evaluation from options to a finished run folder."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from msgspec import structs

from robustbench_coded.engine.run import Engine
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.execution.results import UnitFailure
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.run_file import run_toml
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.follow_up import ROUNDS, follow_up
from robustbench_coded.evaluation.planning.measured import measured_attacks, share_left
from robustbench_coded.evaluation.planning.partition_choice import (
    CLEAN_PARTITIONS,
    chosen_for_partitions,
    clean_in_few_batches,
    partition_units,
)
from robustbench_coded.evaluation.planning.plan import Plan, UnitMaker, rows_for
from robustbench_coded.evaluation.planning.resubmission import resubmissions
from robustbench_coded.evaluation.planning.rounds import Rounds, RoundUnitMaker, rounds_for
from robustbench_coded.evaluation.planning.second_stage import (
    in_two_stages,
    leading,
    second_stage,
    settled_in,
    settled_settings,
    without_made_up,
)
from robustbench_coded.evaluation.planning.time_limit_plan import OPENING, time_text
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation, prepare
from robustbench_coded.evaluation.setup.zoo_entry import with_zoo
from robustbench_coded.evidence.bundle import write_evidence
from robustbench_coded.reports.write import write_reports, write_reports_of
from robustbench_coded.results.manifest import load_manifest
from robustbench_coded.results.run import load_run
from robustbench_coded.runs.folder import MANIFEST, RunFolder
from robustbench_coded.runs.perturbation_store import PerturbationStore
from robustbench_coded.schema.manifest import RunManifest, manifest_data
from robustbench_coded.session.earlier_units import with_counts
from robustbench_coded.session.forecast import forecast
from robustbench_coded.session.further_waves import further_units
from robustbench_coded.session.half_done import half_done
from robustbench_coded.session.hidden_sources import hidden_sources
from robustbench_coded.session.listener import Listener
from robustbench_coded.session.manifest import (
    checked_against,
    checked_rounds,
    extended,
    new_manifest,
    with_partitions,
    without_rounds,
)
from robustbench_coded.session.remarks import remarks_on
from robustbench_coded.session.run_plan import Done, run_plan
from robustbench_coded.session.selftesting import run_selftests, with_selftests
from robustbench_coded.session.stopped import IncompleteRun, opened_folder
from robustbench_coded.session.submitted_later import submitted_later
from robustbench_coded.session.tracked import tracked_by_git
from robustbench_coded.session.until_settled import UntilSettled
from robustbench_coded.session.within_time import Deadline, fitting, spend_what_is_left, within_time


def evaluate(config: EvalConfig, listener: Listener | None = None, in_memory: InMemory | None = None) -> Path:
    """Runs an evaluation, or goes on with it, and writes its reports.

    Units that the folder already holds are not computed again; options that change what a unit means give it
    another identity, so that a folder never mixes the two.

    Args:
        in_memory: data, models and defences that are in memory already; None for none, but for what a defence
            of the zoo brings.

    Returns:
        the run folder.

    Raises:
        InputError: the options, a checkpoint, the data or the folder are not usable.
        CertificateContradicted: an attack did what a certified bound rules out.
        IncompleteRun: some units failed; everything else is finished and reported.
        RunStopped: the disk or the workers fail; finished units are kept.
        KeyboardInterrupt: stopped from outside; finished units are kept and reported.
    """
    listener = listener or Listener()
    deadline = None if config.time is None else Deadline(config.time, time.monotonic())
    run_file = None if in_memory is not None else run_toml(config)
    config, prepared, path = made_ready(config, in_memory, deadline, listener.preparing)
    if config.resume and not (path / MANIFEST).exists():
        raise InputError(f"--resume: {path} holds no run to go on with; leave --resume out to start one")
    with (
        opened_folder(RunFolder(path), listener, write_reports) as folder,
        Engine(prepared.context) as engine,
    ):
        failures = _evaluate_into(folder, engine, config, prepared, listener, deadline, run_file)
    if failures:
        raise IncompleteRun(path, failures)
    return path


def made_ready(
    config: EvalConfig,
    in_memory: InMemory | None = None,
    deadline: Deadline | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[EvalConfig, PreparedEvaluation, Path]:
    """Options, everything that they name, and the run folder; cut down to a time limit, if there is one.

    Writes nothing; ``say`` is told what is probed.

    Raises:
        InputError: the options, a checkpoint or the data are not usable.
    """
    if in_memory is None:
        config, in_memory = with_zoo(config)
    prepared = prepare(config, in_memory, say=say)
    path = config.out or Path("reports") / prepared.folder_name
    if deadline is None:
        return config, prepared, path
    if config.out is None:  # how many examples fit, and with them the name, may be another the next time
        path = path.with_name(f"{path.name}-{time_text(deadline.seconds)}")
    return *within_time(config, prepared, in_memory, path, deadline), path


def _evaluate_into(
    folder: RunFolder,
    engine: Engine,
    config: EvalConfig,
    prepared: PreparedEvaluation,
    listener: Listener,
    deadline: Deadline | None,
    run_file: str | None,
) -> list[UnitFailure]:
    """Brings a run folder up to date with its options; returns the units that failed."""
    if config.overwrite:
        folder.clear()
    old = load_manifest(folder.path) if (folder.path / MANIFEST).exists() else None
    if old is not None:
        prepared = prepared.resumed_from(old)
    prepared = with_selftests(prepared)
    if config.until is not None:
        prepared = replace(prepared, rounds=rounds_for(config, prepared.setup.examples))
    plan = make_plan(config, prepared)
    planned = plan.rows
    if prepared.rounds is not None:
        prepared.rounds.planned = frozenset(row.key for row in planned)
    if old is not None:
        checked_against(old, new_manifest(config, prepared, plan), folder.path)
        if prepared.rounds is not None:
            checked_rounds(old, prepared.rounds.planned, folder.path)
    for text in prepared.notes:
        listener.note(text)
    if tracked_by_git(folder.path):
        listener.note(f"git tracks {folder.path}: this changes committed files; --out gives another folder")
    first, waiting = in_two_stages(config, planned) if config.until is None else (planned, [])
    plan = plan.only(first)
    manifest = _planned(folder, config, prepared, plan, old)
    folder.write_run_file(run_file)
    done = Done(_usable(folder, manifest, listener))
    run_selftests(folder, prepared, listener)
    store = PerturbationStore(folder.path)
    remarks: dict[str, None] = {}
    in_partitions: Sequence[Unit] = ()
    retired: Collection[str] = ()
    if config.until is not None:

        def update(rows: Sequence[AttackCase], partitions: Sequence[Unit]) -> None:
            nonlocal plan, manifest
            plan = replace(plan_of(rows, unit_maker(config, prepared), ()), notes=plan.notes)
            manifest = _planned(folder, config, prepared, plan, old, partitions)
            units = [unit for unit in (*plan.units, *partitions) if unit.id not in done.metadata]
            done.metadata.update(with_counts(folder.path, folder.committed([unit.id for unit in units])[0]))
            left = tuple(unit for unit in units if unit.id not in done.metadata)
            run_plan(engine, folder, prepared, replace(plan, units=left, notes=()), done, store, listener)

        sequential = UntilSettled(
            config, prepared, plan.rows, unit_maker(config, prepared), done.metadata, update
        )
        sequential.run(folder, listener)
        waiting = in_two_stages(config, sequential.not_begun)[1]
        rows = [row for row in sequential.final_rows() if row not in waiting]
        update(rows, sequential.all_partitions)
        in_partitions, retired = sequential.all_partitions, sequential.retired
    else:
        following: list[Unit] = []
        if deadline is None:
            maker = unit_maker(config, prepared)
            following = submitted_later(prepared, plan, maker, done.metadata, store)
            following += further_units(prepared, plan.rows, waiting, maker, done.metadata)
        run_plan(engine, folder, prepared, plan, done, store, listener, following)

    def run_also(rows: Sequence[AttackCase]) -> None:
        nonlocal plan, manifest
        plan = plan_of([*plan.rows, *rows], unit_maker(config, prepared), plan.notes)
        manifest = _planned(folder, config, prepared, plan, old, in_partitions)
        run_plan(engine, folder, prepared, plan, done, store, listener)

    def goes_on(rows: Sequence[AttackCase], left_out: Sequence[str]) -> bool:
        """Runs further rows; False where there are none."""
        if prepared.rounds is not None:
            rows = prepared.rounds.open_ones(rows)
        if deadline is not None:
            rows, late = fitting(rows, config, prepared, deadline, store)
            left_out = [*left_out, *late]
        remarks.update(dict.fromkeys(left_out))
        if rows:
            run_also(rows)
        return bool(rows)

    begun = () if old is None or config.until is not None else {case.key for case in old.rows}

    def where_something_is_left(rows: Sequence[AttackCase]) -> tuple[list[AttackCase], list[str]]:
        measured = measured_attacks(plan.rows, plan.units, done.metadata)
        settled = partial(settled_in, folder.path)
        return second_stage(rows, measured, settled, begun, replicates=config.replicates)

    rows, said = where_something_is_left(waiting)
    leads = leading(config, rows)
    goes_on(leads, said)
    goes_on(*where_something_is_left([row for row in rows if row not in leads]))
    if deadline is not None:

        def share(row: AttackCase) -> float | None:
            return share_left(row, [unit for unit in plan.units if unit.row == row], done.metadata)

        said = spend_what_is_left(
            rows_waiting_for_time(config, prepared),
            config,
            prepared,
            deadline,
            settled=partial(settled_settings, folder.path),
            known=lambda: [(row, share(row)) for row in plan.rows],
            run=run_also,
        )
        for text in said:
            listener.note(text)
        remarks.update(dict.fromkeys(said))
    goes_on(*submitted_rows(config, prepared, plan, done))
    if old is not None and config.checks:
        maker = unit_maker(config, prepared)
        goes_on(half_done(old, done.metadata, planned, prepared.subjects, maker), ())
    for _ in range(ROUNDS if config.checks else 0):
        if not goes_on(*follow_up(folder.path, plan.rows, unit_maker(config, prepared), planned)):
            break
    for _ in range(ROUNDS):  # what the checks found, and then what is strongest because of it
        if not goes_on(*submitted_rows(config, prepared, plan, done)):
            break
    again = units_in_partitions(folder, config, prepared, plan)
    if again and (deadline is None or forecast(prepared, plan, again).seconds <= deadline.left):
        # Those of an earlier round are of fewer examples.
        anew, ids = {unit.row.key for unit in again}, {unit.id for unit in again}
        earlier = {unit.id for unit in in_partitions if unit.row.key in anew} - ids
        in_partitions = [unit for unit in in_partitions if unit.id not in earlier]
        retired = {*retired, *earlier}
        manifest = with_partitions(manifest, list(dict.fromkeys([*in_partitions, *again])))
        # An earlier evaluation may have scored them, too; their files stay.
        manifest = structs.replace(manifest, superseded=_superseded(old, manifest))
        folder.write_manifest(manifest_data(manifest))
        run_plan(engine, folder, prepared, replace(plan, units=tuple(again)), done, store, listener)
    store.remove()
    if not done.failures:
        folder.remove([*manifest.superseded, *retired])
        manifest = structs.replace(manifest, superseded=())
    if config.certify:
        from robustbench_coded.session.certifying import certify  # others do without

        certify(folder, prepared, listener)
    kept = without_made_up(manifest.notes, plan.rows)
    notes = dict.fromkeys([*kept, *remarks, *remarks_on(plan, done.metadata)])
    manifest = structs.replace(manifest, notes=tuple(notes), finished=True)
    folder.write_manifest(manifest_data(manifest))
    run = load_run(folder.path)
    if config.claim is not None:
        for text in write_evidence(run, config, plan, prepared.context):
            listener.note(text)
    write_reports_of(run, final=True)
    listener.reported(run)
    return list(done.failures.values())


def _planned(
    folder: RunFolder,
    config: EvalConfig,
    prepared: PreparedEvaluation,
    plan: Plan,
    old: RunManifest | None,
    in_partitions: Sequence[Unit] = (),
) -> RunManifest:
    """The manifest with this plan in it, written to the folder."""
    fresh = new_manifest(config, prepared, plan)
    before = old
    if old is not None and prepared.rounds is not None:
        before = without_rounds(old, prepared.rounds.planned)
    manifest = with_partitions(extended(before, fresh), in_partitions)
    manifest = structs.replace(manifest, superseded=_superseded(old, manifest))
    if config.time is not None:  # what an earlier evaluation left out may have been made up for
        kept = [text for text in manifest.notes if not text.startswith(OPENING) or text in plan.notes]
        manifest = structs.replace(manifest, notes=tuple(kept))
    folder.write_manifest(manifest_data(manifest))
    return manifest


def _superseded(old: RunManifest | None, manifest: RunManifest) -> tuple[str, ...]:
    """Units of earlier evaluations whose rows now have other units; their files go once these are there."""
    if old is None:
        return ()
    now = set(manifest.unit_ids)
    return tuple(unit for unit in dict.fromkeys([*old.superseded, *old.unit_ids]) if unit not in now)


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
        "leaves nobody to harm."
        for row in rows
        if not units[row]
    ]
    return Plan(
        tuple(row for row in rows if units[row]),
        tuple(unit for row in rows for unit in units[row]),
        tuple(dict.fromkeys([*notes, *empty])),
    )


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
    if prepared.rounds is not None:
        cases = chosen_for_partitions(run, plan.rows)
        # Of what has stopped, too: rows that ran afterwards may have widened its interval again.
        cases = [case for case in cases if not case.threat.one_victim]
    else:
        cases = chosen_for_partitions(run, plan.rows, together=True)
    clean = [case for case in clean_in_few_batches(run, plan.rows) if case not in cases]
    return [
        *(unit for case in cases for unit in partition_units(case, maker, examples)),
        *(unit for case in clean for unit in partition_units(case, maker, examples, _for_clean)),
    ]


def _for_clean(wanted: int, batches: int) -> int:
    return min(wanted, CLEAN_PARTITIONS)


def unit_maker(config: EvalConfig, prepared: PreparedEvaluation) -> UnitMaker:
    """What cuts the rows of this evaluation into units."""
    of = config, prepared.setup.examples, prepared.setup.group_images, prepared.fixed
    rounds = prepared.rounds
    if rounds is None and prepared.cut_at:  # what an earlier evaluation in rounds computed is taken over
        rounds = Rounds(prepared.setup.examples, prepared.cut_at)
    return UnitMaker(*of) if rounds is None else RoundUnitMaker(*of, rounds)


def _usable(folder: RunFolder, manifest: RunManifest, listener: Listener) -> dict[str, dict]:
    """Metadata of the units that are committed; files that can't be trusted are named and set aside."""
    ours = manifest.unit_ids
    metadata, damaged = folder.committed(ours)
    for unit, reason in damaged.items():
        aside = folder.set_aside(unit)
        listener.note(f"{reason}; its unit is computed again (the file is now {aside.name})")
    for name in folder.foreign([*ours, *manifest.superseded]):
        listener.note(f"outcomes/{name} belongs to no unit of this run; it is not counted")
    return with_counts(folder.path, metadata)
