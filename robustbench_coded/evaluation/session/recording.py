"""The run folder of an evaluation in progress: what has begun is written before it runs, what is committed is
read, and what is left over in the end is removed.
"""

from collections.abc import Sequence

import msgspec
from msgspec import structs

from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.evaluation.protocol.follow_up import follow_up
from robustbench_coded.evaluation.protocol.plan import Need, Results
from robustbench_coded.evaluation.session.evaluation import Evaluation, remarks_on
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.session.manifest import with_earlier
from robustbench_coded.evaluation.session.run_plan import Done
from robustbench_coded.evaluation.setup.code import after_use, code_in_hand
from robustbench_coded.judge.run import load_run
from robustbench_coded.runs.adversarials import PerturbationStore
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.runs.folder import STEPS, RunFolder
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
        self._steps: list[str] = []
        self._remarks: dict[str, None] = {}
        self._looked: set[str] = set()
        if evaluation.old is not None:
            self._look_through(evaluation.old)
        self.store = PerturbationStore(folder.path)

    def write_step(self, step: Need) -> None:
        """Adds a line to steps.jsonl."""
        self._steps.append(msgspec.json.encode(step).decode() + "\n")
        write_text(self.folder.path / STEPS, "".join(self._steps))

    def write(self, steps: tuple[Need, ...], *, finished: bool = False) -> None:
        """Writes run.json with what has begun, and with what earlier evaluations left."""
        own = self.evaluation.manifest(
            steps, tuple(self._remarks), stopped=not finished, planned=not finished
        )
        old = self.evaluation.old
        manifest = own if old is None else with_earlier(own, old, self.held)
        now, before = set(manifest.unit_ids), () if old is None else (*old.superseded, *old.unit_ids)
        superseded = [unit for unit in dict.fromkeys([*before, *sorted(self._looked)]) if unit not in now]
        self.manifest = structs.replace(manifest, superseded=tuple(superseded))
        self.folder.write_manifest(msgspec.to_builtins(self.manifest))

    def finish(self, results: Results, outlook: Sequence[Outlook] = ()) -> None:
        """Removes what is no longer needed and writes the reports."""
        self.store.remove()
        plan = self.evaluation.begun(results.steps)
        too_dear = self._too_dear(results)
        remarks = [*too_dear, *remarks_on(plan.units, self.done.metadata)]
        self._remarks.update(dict.fromkeys(remarks))
        self.write(results.steps, finished=True)
        if not self.done.failures:
            self.folder.remove(self.manifest.superseded)
            self.manifest = structs.replace(self.manifest, superseded=())
        self.manifest = structs.replace(self.manifest, outlook=tuple(outlook), finished=True)
        self.folder.write_manifest(msgspec.to_builtins(self.manifest))
        run = load_run(self.folder.path)
        from robustbench_coded.reports.run.findings import faulty, left_out
        from robustbench_coded.reports.write import write_reports_of  # imports matplotlib

        for text in (*faulty(run), *left_out(run)):
            self.listener.note(text)
        self.listener.preparing("writing the reports")
        write_reports_of(run)
        self.listener.reported(run)

    def _too_dear(self, results: Results) -> list[str]:
        """What open checks ask for and is left to the user."""
        plan, sentences = self.evaluation.plan, list[str]()
        for comparison in plan.judged if plan.checks else ():
            at = plan.at(results.size_of(plan, comparison))
            sentences += follow_up(at, results, [comparison])[1]
        return sentences

    def note_changes(self) -> None:
        """Code that changed while it ran, by counters and caches, is known again as it is now."""
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
