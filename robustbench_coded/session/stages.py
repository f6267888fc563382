"""The stages of an evaluation: each plans further rows from what the earlier ones found, and runs them."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from msgspec import structs

from robustbench_coded.engine.run import Engine
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.follow_up import ROUNDS, follow_up
from robustbench_coded.evaluation.planning.measured import measured_attacks, share_left
from robustbench_coded.evaluation.planning.plan import Plan, UnitMaker
from robustbench_coded.evaluation.planning.second_stage import (
    in_two_stages,
    leading,
    second_stage,
    settled_in,
    settled_settings,
    without_made_up,
)
from robustbench_coded.evaluation.planning.time_limit_plan import OPENING
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.evidence.bundle import write_evidence
from robustbench_coded.results.run import load_run
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.runs.perturbation_store import PerturbationStore
from robustbench_coded.schema.manifest import RunManifest, manifest_data
from robustbench_coded.session.attack_code import other_attacks
from robustbench_coded.session.earlier_units import with_counts
from robustbench_coded.session.forecast import forecast
from robustbench_coded.session.further_waves import further_units
from robustbench_coded.session.half_done import half_done
from robustbench_coded.session.listener import Listener
from robustbench_coded.session.manifest import extended, new_manifest, with_partitions, without_rounds
from robustbench_coded.session.plans import (
    plan_of,
    rows_waiting_for_time,
    submitted_rows,
    unit_maker,
    units_in_partitions,
)
from robustbench_coded.session.remarks import remarks_on
from robustbench_coded.session.run_plan import Done, run_plan
from robustbench_coded.session.submitted_later import submitted_later
from robustbench_coded.session.until_settled import UntilSettled
from robustbench_coded.session.within_time import Deadline, fitting, spend_what_is_left


class Stages:
    """An evaluation in progress.

    What a stage plans depends on the options and on committed outcomes alone: an evaluation that was
    interrupted plans the same.

    Args:
        plan: what the options ask for; attacks of the second stage wait.
        old: the manifest that the folder held before.
        deadline: of ``--time``.
    """

    def __init__(
        self,
        folder: RunFolder,
        engine: Engine,
        config: EvalConfig,
        prepared: PreparedEvaluation,
        plan: Plan,
        old: RunManifest | None,
        listener: Listener,
        deadline: Deadline | None,
    ):
        self.folder, self.engine, self.config, self.prepared = folder, engine, config, prepared
        self.old, self.listener, self.deadline = old, listener, deadline
        self._asked_for = plan.rows
        first, self._waiting = in_two_stages(config, plan.rows) if config.until is None else (plan.rows, [])
        self.plan = plan.only(first)
        self.manifest: RunManifest
        self._in_partitions: Sequence[Unit] = ()
        self._retired: Collection[str] = ()
        self._remarks: dict[str, None] = {}
        self._record()
        self.done = Done(self._usable())
        self._store = PerturbationStore(folder.path)

    def first_attacks(self) -> None:
        """All that does not wait for what others find."""
        following: list[Unit] = []
        if self.deadline is None:
            following = submitted_later(
                self.prepared, self.plan, self._maker, self.done.metadata, self._store
            )
            following += further_units(
                self.prepared, self.plan.rows, self._waiting, self._maker, self.done.metadata
            )
        self._run(self.plan, following)

    def rounds(self) -> None:
        """Round after round until words are settled (``--until``)."""

        def update(rows: Sequence[AttackCase], partitions: Sequence[Unit]) -> None:
            # A row without units may only be in a round that is still to come: nothing is said of it.
            self.plan = replace(plan_of(rows, self._maker, ()), notes=self.plan.notes)
            self._in_partitions = partitions
            self._record()
            units = [unit for unit in (*self.plan.units, *partitions) if unit.id not in self.done.metadata]
            path, (found, _) = self.folder.path, self.folder.committed([unit.id for unit in units])
            self.done.metadata.update(with_counts(path, found))
            left = tuple(unit for unit in units if unit.id not in self.done.metadata)
            self._run(replace(self.plan, units=left, notes=()))

        sequential = UntilSettled(
            self.config, self.prepared, self.plan.rows, self._maker, self.done.metadata, update
        )
        sequential.run(self.folder, self.listener)
        self._waiting = in_two_stages(self.config, sequential.not_begun)[1]
        rows = [row for row in sequential.final_rows() if row not in self._waiting]
        left = (unit for row in rows for unit in self._maker.units(row) if unit.id not in self.done.metadata)
        if not sequential.rounds.open and any(left):
            self.listener.note("every verdict is settled; the paper's attacks go on to all examples")
        update(rows, sequential.all_partitions)
        self._retired = sequential.retired

    def second_stage(self) -> None:
        """The attacks that waited, where the others leave something: the leading one first."""
        rows, said = self._where_something_is_left(self._waiting)
        leads = leading(self.config, rows)
        self._goes_on(leads, said)
        self._goes_on(*self._where_something_is_left([row for row in rows if row not in leads]))

    def time_left(self) -> None:
        """What ``--time`` kept back, as far as time is left."""
        if self.deadline is None:
            return

        def share(row: AttackCase) -> float | None:
            units = [unit for unit in self.plan.units if unit.row == row]
            return share_left(row, units, self.done.metadata)

        said = spend_what_is_left(
            rows_waiting_for_time(self.config, self.prepared),
            self.config,
            self.prepared,
            self.deadline,
            settled=partial(settled_settings, self.folder.path),
            known=lambda: [(row, share(row)) for row in self.plan.rows],
            run=self._run_also,
        )
        for text in said:
            self.listener.note(text)
        self._remarks.update(dict.fromkeys(said))

    def submissions(self, most: int = 1) -> None:
        """Perturbed inputs submitted elsewhere, again while something else becomes the strongest."""
        for _ in range(most):
            if not self._goes_on(*submitted_rows(self.config, self.prepared, self.plan, self.done)):
                break

    def checks(self) -> None:
        """The attacks that checks ask for, those first that an earlier evaluation began."""
        if not self.config.checks:
            return
        if self.old is not None:
            rows = half_done(
                self.old, self.done.metadata, self._asked_for, self.prepared.subjects, self._maker
            )
            self._goes_on(rows, ())
        for _ in range(ROUNDS):
            if not self._goes_on(*follow_up(self.folder.path, self.plan.rows, self._maker, self._asked_for)):
                break

    def partitions(self) -> None:
        """Scores in many random batches what few batches left open."""
        again = units_in_partitions(self.folder, self.config, self.prepared, self.plan)
        if not again or (
            self.deadline is not None
            and forecast(self.prepared, self.plan, again).seconds > self.deadline.left
        ):
            return
        # Those of an earlier round are of fewer examples.
        anew, ids = {unit.row.key for unit in again}, {unit.id for unit in again}
        earlier = {unit.id for unit in self._in_partitions if unit.row.key in anew} - ids
        self._in_partitions = [unit for unit in self._in_partitions if unit.id not in earlier]
        self._retired = {*self._retired, *earlier}
        manifest = with_partitions(self.manifest, list(dict.fromkeys([*self._in_partitions, *again])))
        # An earlier evaluation may have scored them, too; their files stay.
        self.manifest = structs.replace(manifest, superseded=self._superseded(manifest))
        self.folder.write_manifest(manifest_data(self.manifest))
        self._run(replace(self.plan, units=tuple(again)))

    def finish(self) -> None:
        """Removes what is no longer needed and writes certificates, evidence and reports."""
        self._store.remove()
        if not self.done.failures:
            self.folder.remove([*self.manifest.superseded, *self._retired])
            self.manifest = structs.replace(self.manifest, superseded=())
        if self.config.certify:
            from robustbench_coded.session.certifying import certify  # others do without

            certify(self.folder, self.prepared, self.listener)
        kept = without_made_up(self.manifest.notes, self.plan.rows)
        notes = dict.fromkeys([*kept, *self._remarks, *remarks_on(self.plan, self.done.metadata)])
        self.manifest = structs.replace(self.manifest, notes=tuple(notes), finished=True)
        self.folder.write_manifest(manifest_data(self.manifest))
        run = load_run(self.folder.path)
        if self.config.claim is not None:
            for text in write_evidence(run, self.config, self.plan, self.prepared.context):
                self.listener.note(text)
        from robustbench_coded.reports.write import write_reports_of  # after matplotlib, see session.evaluate

        write_reports_of(run, final=True)
        self.listener.reported(run)

    @property
    def _maker(self) -> UnitMaker:
        return unit_maker(self.config, self.prepared)

    def _run(self, plan: Plan, following: Sequence[Unit] = ()) -> None:
        run_plan(
            self.engine, self.folder, self.prepared, plan, self.done, self._store, self.listener, following
        )

    def _run_also(self, rows: Sequence[AttackCase]) -> None:
        self.plan = plan_of([*self.plan.rows, *rows], self._maker, self.plan.notes)
        self._record()
        self._run(self.plan)

    def _goes_on(self, rows: Sequence[AttackCase], left_out: Sequence[str]) -> bool:
        """Runs further rows; False where there are none.

        Args:
            left_out: sentences on rows that will not run.
        """
        if self.prepared.rounds is not None:
            rows = self.prepared.rounds.open_ones(rows)
        if self.deadline is not None:
            rows, late = fitting(rows, self.config, self.prepared, self.deadline, self._store)
            left_out = [*left_out, *late]
        self._remarks.update(dict.fromkeys(left_out))
        if rows:
            self._run_also(rows)
        return bool(rows)

    def _where_something_is_left(self, rows: Sequence[AttackCase]) -> tuple[list[AttackCase], list[str]]:
        measured = measured_attacks(self.plan.rows, self.plan.units, self.done.metadata)
        settled = partial(settled_in, self.folder.path)
        old = self.old if self.config.until is None else None
        begun = () if old is None else {case.key for case in old.rows}
        return second_stage(rows, measured, settled, begun, replicates=self.config.replicates)

    def _record(self) -> None:
        """Writes the manifest with the plan in it."""
        before = self.old
        if self.old is not None and self.prepared.rounds is not None:
            before = without_rounds(self.old, self.prepared.rounds.planned)
        fresh = new_manifest(self.config, self.prepared, self.plan)
        if self.old is not None:
            fresh = structs.replace(fresh, notes=(*fresh.notes, *other_attacks(self.old)))
        manifest = with_partitions(extended(before, fresh), self._in_partitions)
        manifest = structs.replace(manifest, superseded=self._superseded(manifest))
        if self.config.time is not None:  # what an earlier evaluation left out may have been made up for
            kept = [
                text for text in manifest.notes if not text.startswith(OPENING) or text in self.plan.notes
            ]
            manifest = structs.replace(manifest, notes=tuple(kept))
        self.manifest = manifest
        self.folder.write_manifest(manifest_data(manifest))

    def _superseded(self, manifest: RunManifest) -> tuple[str, ...]:
        """Units of earlier evaluations whose rows now have others; their files go once these are there."""
        old = self.old
        if old is None:
            return ()
        now = set(manifest.unit_ids)
        return tuple(unit for unit in dict.fromkeys([*old.superseded, *old.unit_ids]) if unit not in now)

    def _usable(self) -> dict[str, dict]:
        """Metadata of the units that are committed; files that can't be trusted are named and set aside."""
        ours = self.manifest.unit_ids
        metadata, damaged = self.folder.committed(ours)
        for unit, reason in damaged.items():
            aside = self.folder.set_aside(unit)
            self.listener.note(f"{reason}; its unit is computed again (the file is now {aside.name})")
        for name in self.folder.foreign([*ours, *self.manifest.superseded]):
            self.listener.note(f"outcomes/{name} belongs to no unit of this run; it is not counted")
        return with_counts(self.folder.path, metadata)
