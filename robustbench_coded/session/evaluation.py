"""An evaluation in progress: what has been begun, how far it runs, and what the run folder says of it."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from msgspec import structs

from robustbench_coded.engine.run import Engine
from robustbench_coded.evaluation.planning.batches import Lane, lane_of
from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject, Unit
from robustbench_coded.evaluation.planning.plan import Plan, rows_for
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.plugins import load
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import load_run
from robustbench_coded.runs.adversarials import PerturbationStore
from robustbench_coded.runs.certificates import Stored, read_stored, write_certificates
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.schema.case import Case, Perturbation
from robustbench_coded.schema.manifest import Outlook, RunManifest, Sequential, manifest_data
from robustbench_coded.schema.words import CLEAN, CONTROLS
from robustbench_coded.session.forecast import Seconds
from robustbench_coded.session.listener import Listener
from robustbench_coded.session.manifest import kept_from, new_manifest
from robustbench_coded.session.run_plan import Done, run_plan


def remarks_on(plan: Plan, metadata: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each row with units whose forwards had to be smaller than planned, or failed inputs.

    Args:
        metadata: of the committed units, by id.
    """
    smaller = Counter(
        (unit.case, metadata[unit.id]["group_images"])
        for unit in plan.units
        if "group_images" in metadata.get(unit.id, {})
    )
    unanswered: Counter[PlannedCase] = Counter()
    relaxed: Counter[PlannedCase] = Counter()
    first: dict[PlannedCase, Sequence[int]] = {}  # an example and a draw
    for unit in plan.units:
        found = metadata.get(unit.id, {})
        unanswered[unit.case] += found.get("unanswered", 0)
        relaxed[unit.case] += found.get("without_gradient", 0)
        if "unanswered_at" in found:
            first.setdefault(unit.case, found["unanswered_at"])
    said = [
        f"{row.attack} ({row.threat}) on {row.subject.checkpoint} behind {row.subject.label}: out of memory, "
        f"{count} units were answered in forwards of at most {images} images, and their last digits may "
        "differ from those of a run with more memory."
        for (row, images), count in smaller.items()
    ]
    for row, (example, draw) in first.items():
        asked = "clean inputs" if row.attack == CLEAN else f"{row.attack} ({row.threat})"
        said.append(
            f"{row.subject.label} on {row.subject.checkpoint}: {unanswered[row]} answers to {asked} were "
            f"exceptions, NaN or infinite, the first to image {example} in draw {draw}; they count as wrong."
        )
    return said + [
        f"{row.subject.label} on {row.subject.checkpoint} could not be differentiated at {count} inputs by "
        f"{row.attack} ({row.threat}), which went on there with smooth operators (relaxed-)."
        for row, count in relaxed.items()
        if count
    ]


def plan_of(
    cases: Sequence[PlannedCase], units_of: Callable[[PlannedCase], Sequence[Unit]], notes: Sequence[str]
) -> Plan:
    """These rows with their units; a row without any is left out, and a sentence says so."""
    units = {case: units_of(case) for case in cases}
    empty = [
        f"{case.attack} on {case.subject.label} ({case.threat}) was not run: every batch is so small that it "
        "leaves no input to harm."
        for case in cases
        if not units[case]
    ]
    return Plan(
        tuple(case for case in cases if units[case]),
        tuple(unit for case in cases for unit in units[case]),
        tuple(dict.fromkeys([*notes, *empty])),
    )


def make_plan(prepared: PreparedEvaluation) -> Plan:
    """Every row that may run, on all of its examples."""
    cases, notes = rows_for(prepared.requested, prepared.conditions, prepared.subjects)
    return plan_of(cases, prepared.maker().units, notes)


class Evaluation:
    """Rows begun so far, and their units in the run folder.

    Rows that an earlier evaluation left in the folder, and that this one may plan, are hidden until it begins
    them again: what it plans follows from the options and from the outcomes of its own rows, so that an
    interrupted evaluation goes on as if nothing had happened.

    Args:
        planned: every row that may run, in the order of tables.
        notes: sentences on rows that will not run.
        old: the manifest that the folder held before.
        sequential: how rows get their number of examples; None where all run on all.

    Attributes:
        begun: the rows that run, in the order in which they began.
        reached: rounds that a lane's verdict rests on.
        for_table: those of them that began for the table alone.
        random: units in random batches, by row.
        done: what became of units.
    """

    def __init__(
        self,
        folder: RunFolder,
        engine: Engine,
        prepared: PreparedEvaluation,
        planned: Sequence[PlannedCase],
        notes: Sequence[str],
        old: RunManifest | None,
        sequential: Sequential | None,
        seconds: Seconds,
        listener: Listener,
    ):
        self.folder, self.engine, self.config, self.prepared = folder, engine, prepared.config, prepared
        self.planned, self.old, self.sequential = tuple(planned), old, sequential
        self.seconds, self.listener = seconds, listener
        self.maker = prepared.maker(prepared.extents)
        self.begun: dict[PlannedCase, None] = {}
        self.for_table: set[PlannedCase] = set()
        self.random: dict[PlannedCase, list[Unit]] = {}
        self.reached: dict[Lane, int] = {}
        self.plan = Plan((), (), tuple(notes))
        self._notes = tuple(notes)
        self._units: dict[tuple[PlannedCase, int | None], Sequence[Unit]] = {}
        self._remarks: dict[str, None] = {}
        self._judgements: dict[Case, Judgement] | None = None
        subjects = {subject.subject for subject in prepared.subjects}
        self._kept = kept_from(old, subjects, {case.case for case in planned})
        self.done = Done({})
        self._looked: set[str] = set()
        self.record()
        self._set_aside_damaged()
        self._store = PerturbationStore(folder.path)

    def begin(self, cases: Sequence[PlannedCase], *, rounds: int | None = None) -> bool:
        """Adds rows, or takes them further; False where nothing is new.

        Args:
            rounds: how far they run; None for all examples.
        """
        new = False
        for case in cases:
            new |= case not in self.begun
            self.begun[case] = None
            if self.prepared.extents is not None:
                ends = self.prepared.extents.ends
                new |= self.prepared.extents.to(case, len(ends) if rounds is None else rounds)
        return new

    def drop(self, cases: Sequence[PlannedCase]) -> None:
        """Takes rows back that are planned anew."""
        for case in cases:
            self.begun.pop(case, None)
            self.random.pop(case, None)
            if self.prepared.extents is not None:
                self.prepared.extents.reached.pop(case, None)

    def score_in_random_batches(self, case: PlannedCase, units: Sequence[Unit]) -> None:
        """Adds units in random batches, in place of those that the row had."""
        self.random[case] = list(units)

    def units(self, case: PlannedCase) -> Sequence[Unit]:
        """The units of a row, as far as it runs."""
        extents = self.prepared.extents
        key = case, None if extents is None else extents.of(case)
        if key not in self._units:
            self._units[key] = self.maker.units(case)
        return self._units[key]

    @property
    def _stops(self) -> bool:
        """Whether what was found decides on how many examples rows run."""
        return self.sequential is not None and self.sequential.table_seconds is not None

    def remark(self, texts: Sequence[str]) -> None:
        """Sentences for the reader of the report."""
        self._remarks.update(dict.fromkeys(texts))

    def lay_out(self) -> None:
        """Cuts what has been begun into units, and writes it into run.json."""
        order = {case: place for place, case in enumerate(self.planned)}
        cases = sorted(self.begun, key=lambda case: order.get(case, len(order)))
        self.plan = plan_of(cases, self.units, self._notes)
        self.record()

    def run(self) -> None:
        """Computes every unit of what has been begun that is neither committed nor failed yet."""
        self.lay_out()
        units = [*self.plan.units, *(unit for units in self.random.values() for unit in units)]
        self._look_up(units)
        left = tuple(unit for unit in units if unit.id not in self.done.metadata)
        if any(unit.id not in self.done.failures for unit in left):
            plan = replace(self.plan, units=left, notes=())
            done, store = self.done, self._store
            run_plan(self.engine, self.folder, self.prepared, plan, done, store, self.listener, self.seconds)
        self._judgements = None

    @property
    def judgements(self) -> dict[Case, Judgement]:
        """What the outcomes so far say, by setting."""
        if self._judgements is None:
            self._judgements = {found.case.setting: found for found in load_run(self.folder.path).judgements}
        return self._judgements

    def record(self) -> None:
        """Writes run.json with what has been begun."""
        extents = self.prepared.extents
        judged = set(self.begun) - self.for_table if self._stops else set()
        fresh = new_manifest(
            self.prepared,
            self.plan,
            looks={case: extents.looks for case in judged if extents and case.attack not in CONTROLS},
            table={case for case in self.for_table if self._short(case)},
            random=self.random,
        )
        notes = [*fresh.notes, *self._remarks]
        if self.old is not None:
            notes += self.old.notes
        rates = {name: self.seconds.rates[name] for name in sorted(self.seconds.rates)}
        manifest = structs.replace(
            fresh,
            notes=tuple(dict.fromkeys(notes)),
            sequential=None if self.sequential is None else structs.replace(self.sequential, rates=rates),
        )
        manifest = self._kept.extended_by(manifest)
        self.manifest = structs.replace(manifest, superseded=self._superseded(manifest))
        self.folder.write_manifest(manifest_data(self.manifest))

    def reveal(self) -> None:
        """Writes run.json with the rows of earlier evaluations that have not come again, too."""
        self.record()
        ids = [unit for row in self._kept.waiting.values() for unit in row.all_units]
        manifest = self._kept.revealed(self.manifest, set(self.folder.committed(ids)[0]))
        self.manifest = structs.replace(manifest, superseded=self._superseded(manifest))
        self.folder.write_manifest(manifest_data(self.manifest))

    def finish(self, outlook: Sequence[Outlook] = ()) -> None:
        """Removes what is no longer needed and writes certificates, evidence and reports."""
        self._store.remove()
        self.remark(remarks_on(self.plan, self.done.metadata))
        self.reveal()
        if not self.done.failures:
            self.folder.remove(self.manifest.superseded)
            self.manifest = structs.replace(self.manifest, superseded=())
        if self.config.certify:
            certify(self.folder, self.prepared, self.listener)
        self.manifest = structs.replace(self.manifest, outlook=tuple(outlook), finished=True)
        self.folder.write_manifest(manifest_data(self.manifest))
        run = load_run(self.folder.path)
        if self.config.claim is not None:
            write_evidence = load("evidence", "refuted")
            for text in write_evidence(run, self.plan, self.prepared.context):
                self.listener.note(text)
        from robustbench_coded.reports.write import write_reports_of  # imports matplotlib

        write_reports_of(run, final=True)
        self.listener.reported(run)

    def _short(self, case: PlannedCase) -> bool:
        """Whether a row runs on fewer examples than the verdict of its lane rests on."""
        extents = self.prepared.extents
        return extents is not None and extents.of(case) < self.reached.get(lane_of(case), 0)

    def _superseded(self, manifest: RunManifest) -> tuple[str, ...]:
        """Units that the folder may hold and that belong to no row now."""
        now = set(manifest.unit_ids)
        old = () if self.old is None else (*self.old.superseded, *self.old.unit_ids)
        return tuple(unit for unit in dict.fromkeys([*old, *sorted(self._looked)]) if unit not in now)

    def _look_up(self, units: Sequence[Unit]) -> None:
        """Takes over what the folder holds of these units."""
        unknown = [unit.id for unit in units if unit.id not in self._looked]
        self._looked |= set(unknown)
        self.done.metadata.update(self.folder.committed(unknown)[0])

    def _set_aside_damaged(self) -> None:
        """Names files that can't be trusted, and sets them aside."""
        ours = [] if self.old is None else [*self.old.unit_ids, *self.old.superseded]
        for unit, reason in self.folder.committed(ours)[1].items():
            aside = self.folder.set_aside(unit)
            self.listener.note(f"{reason}; its unit is computed again (the file is now {aside.name})")
        for name in self.folder.foreign(ours):
            self.listener.note(f"outcomes/{name} belongs to no unit of this run; it is not counted")


VERSION_OF_BOUNDS = 1  # another one computes them again


def certify(folder: RunFolder, prepared: PreparedEvaluation, listener: Listener) -> None:
    """Certifies every subject at every radius that the folder has no certificate for, and stores it.

    The files of a folder are of its own data, seed and weights: nothing else may be evaluated into it.
    """
    for subject in prepared.subjects:
        for perturbation in prepared.requested.perturbations:
            name, settings = _name(subject, perturbation), _settings(prepared, subject)
            stored = read_stored(folder.path, name)
            if stored is not None and stored.settings == settings:
                continue
            where = f"{subject.label} on {subject.checkpoint} at eps {perturbation.eps:g}"
            listener.preparing(f"certifying {where}")
            found = load("bounds", "certify")(prepared.context, subject, perturbation)
            write_certificates(folder.path, name, Stored(settings=settings, certificates=tuple(found)))


def _name(subject: ProbedSubject, perturbation: Perturbation) -> str:
    """20 hexadecimal digits."""
    data = [*subject.subject.as_columns().values(), *perturbation.as_columns().values()]
    return hashlib.blake2b(json.dumps(data).encode(), digest_size=10).hexdigest()


def _settings(prepared: PreparedEvaluation, subject: ProbedSubject) -> str:
    """What else decides what is found."""
    data = [VERSION_OF_BOUNDS, subject.spec, prepared.conditions.known_draws]
    return hashlib.blake2b(json.dumps(data).encode(), digest_size=10).hexdigest()
