"""The run folder of an evaluation in progress: what has begun is written before it runs, what is committed is
read, and what is left over in the end is removed.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import msgspec
from msgspec import Struct, structs

from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject, Unit, code_behind
from robustbench_coded.evaluation.session.evaluation import Evaluation, remarks_on
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.session.manifest import with_earlier
from robustbench_coded.evaluation.session.run_plan import Done
from robustbench_coded.evaluation.session.schedule import Evidence, Standing, Step
from robustbench_coded.evaluation.setup.code import after_use, code_in_hand
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.extensions import load
from robustbench_coded.judge.run import load_run
from robustbench_coded.runs.adversarials import PerturbationStore
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.runs.certificates import Stored, read_stored, write_certificates
from robustbench_coded.runs.folder import STEPS, RunFolder
from robustbench_coded.schema.case import Case, Perturbation
from robustbench_coded.schema.manifest import Outlook, RunManifest


class Recorder:
    """Writes an evaluation into its run folder, and reads what the folder holds of it.

    Attributes:
        done: what became of units.
        manifest: as it was last written.
        store: perturbed inputs that may be submitted.
        held: ids of the units that the folder held when it was opened.
    """

    def __init__(self, evaluation: Evaluation, folder: RunFolder, listener: Listener):
        self.evaluation, self.folder, self.listener = evaluation, folder, listener
        self.done = Done({})
        self.held: frozenset[str] = frozenset()
        self.manifest: RunManifest
        self._decisions: list[str] = []
        self._last = Evidence()
        self._remarks: dict[str, None] = {}
        self._looked: set[str] = set()
        if evaluation.old is not None:
            self._look_through(evaluation.old)
        self.store = PerturbationStore(folder.path)

    def write_decision(self, evidence: Evidence, step: Step | None) -> None:
        """Adds a line to steps.jsonl: a step, and what has changed of what it was decided by."""
        old, self._last = self._last, evidence
        shares = ((_bare(c), share) for c, share in evidence.shares.items() if old.shares.get(c) != share)
        changed = (pair for pair in evidence.standings.items() if old.standings.get(pair[0]) != pair[1])
        if step is not None:
            cases = tuple(replace(part, case=_bare(part.case)) for part in step.cases)
            random = tuple(replace(part, case=_bare(part.case)) for part in step.random)
            step = replace(step, cases=cases, random=random)
        submissions, checks = (
            None if now == before else tuple(map(_bare, now))
            for now, before in ((evidence.submissions, old.submissions), (evidence.checks, old.checks))
        )
        decision = Decision(step, tuple(shares), tuple(changed), submissions, checks)
        self._decisions.append(msgspec.json.encode(decision).decode() + "\n")
        write_text(self.folder.path / STEPS, "".join(self._decisions))

    def write(self, steps: tuple[Step, ...], *, planned: bool = True) -> None:
        """Writes run.json with what has begun, and with what earlier evaluations left.

        Args:
            planned: the evaluation goes on, so that what has not begun is still to come.
        """
        own = self.evaluation.manifest(steps, tuple(self._remarks), planned=planned)
        old = self.evaluation.old
        manifest = own if old is None else with_earlier(own, old, self.held)
        now, before = set(manifest.unit_ids), () if old is None else (*old.superseded, *old.unit_ids)
        superseded = [unit for unit in dict.fromkeys([*before, *sorted(self._looked)]) if unit not in now]
        self.manifest = structs.replace(manifest, superseded=tuple(superseded))
        self.folder.write_manifest(msgspec.to_builtins(self.manifest))

    def finish(self, evidence: Evidence, outlook: Sequence[Outlook] = ()) -> None:
        """Removes what is no longer needed and writes certificates, evidence and reports."""
        self.store.remove()
        prepared, plan = self.evaluation.prepared, self.evaluation.begun(evidence.steps)
        remarks = [*evidence.remarks, *remarks_on(plan.units, self.done.metadata)]
        self._remarks.update(dict.fromkeys(remarks))
        self.write(evidence.steps, planned=False)
        if not self.done.failures:
            self.folder.remove(self.manifest.superseded)
            self.manifest = structs.replace(self.manifest, superseded=())
        if prepared.config.certify:
            certify(self.folder, prepared, self.listener)
        self.manifest = structs.replace(self.manifest, outlook=tuple(outlook), finished=True)
        self.folder.write_manifest(msgspec.to_builtins(self.manifest))
        run = load_run(self.folder.path)
        from robustbench_coded.reports.run.findings import faulty, left_out
        from robustbench_coded.reports.write import write_reports_of  # imports matplotlib

        for text in (*faulty(run), *left_out(run)):
            self.listener.note(text)
        self.listener.preparing("writing the reports")
        write_reports_of(run, final=True)
        self.listener.reported(run)

    def note_changes(self) -> None:
        """Parts of code that changed while they ran, counters and caches, are not compared later."""
        prepared = self.evaluation.prepared
        prepared.code.update(
            after_use(prepared.code, code_in_hand(prepared.config, prepared.setup.in_memory))
        )
        if self.folder.holds_run:
            self.manifest = structs.replace(self.manifest, code={**self.manifest.code, **prepared.code})
            self.folder.write_manifest(msgspec.to_builtins(self.manifest))

    def look_up(self, units: Sequence[Unit]) -> None:
        """Takes over what the folder holds of these units."""
        unknown = [unit.id for unit in units if unit.id not in self._looked]
        self._looked |= set(unknown)
        if self.evaluation.old is not None:  # else it holds none
            self.done.metadata.update(self.folder.committed(unknown)[0])

    def _look_through(self, old: RunManifest) -> None:
        """Takes note of the units that the folder holds; files that can't be trusted are set aside."""
        held, damaged = self.folder.committed([*old.unit_ids, *old.superseded])
        self.held = frozenset(held)
        for unit, reason in damaged.items():
            aside = self.folder.set_aside(unit)
            self.listener.note(f"{reason}; its unit is computed again (the file is now {aside.name})")


class Decision(Struct, frozen=True, omit_defaults=True):
    """A line of steps.jsonl.

    Attributes:
        shares, standings: those that are new or have changed.
        submissions, checks: all of them; None where they are those of the line before.
    """

    step: Step | None
    shares: tuple[tuple[PlannedCase, float], ...] = ()
    standings: tuple[tuple[Case, Standing], ...] = ()
    submissions: tuple[PlannedCase, ...] | None = None
    checks: tuple[PlannedCase, ...] | None = None


def _bare(case: PlannedCase) -> PlannedCase:
    """A case without the batches of what is submitted, of which nothing is decided."""
    submission = case.submission
    if submission is None:
        return case
    sources = tuple(
        (replace(source[0], groups=(), victims=(), images=0, id="", attacked=(), keep=False),)
        for source in submission.sources
    )
    return replace(case, submission=replace(submission, sources=sources))


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
    data = [*structs.asdict(subject.subject).values(), *structs.asdict(perturbation).values()]
    return hashlib.blake2b(json.dumps(data).encode(), digest_size=10).hexdigest()


def _settings(prepared: PreparedEvaluation, subject: ProbedSubject) -> str:
    """What else decides what is found."""
    code = code_behind(prepared.fixed, subject.checkpoint, subject.spec)
    data = [VERSION_OF_BOUNDS, subject.spec, prepared.setup.conditions.known_draws, *code.values()]
    return hashlib.blake2b(json.dumps(data).encode(), digest_size=10).hexdigest()
