"""The run folder of an evaluation in progress: what has begun is written before it runs, what is committed is
read, and what is left over in the end is removed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from robustbench_coded.run import load_run
from robustbench_coded.runs.adversarials import PerturbationStore, put_together
from robustbench_coded.runs.folder import RunFolder, change_between
from robustbench_coded.runs.log import Stepped
from robustbench_coded.schema.manifest import Outlook, RunManifest
from robustbench_coded.schema.words import CLEAN


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
        self._said: dict[str, Any] | None = None
        self._steps = 0  # in the log
        self._remarks: dict[str, None] = {}
        self._looked: set[str] = set()
        if evaluation.old is not None:
            self._look_through(evaluation.old)
        self.store = PerturbationStore(folder.path)

    def write(self, steps: tuple[Need, ...], *, finished: bool = False) -> None:
        """Writes what has begun, and what earlier evaluations left; a line of the log for each new step."""
        own = self.evaluation.manifest(
            steps, tuple(self._remarks), stopped=not finished, planned=not finished
        )
        old = self.evaluation.old
        manifest = own if old is None else with_earlier(own, old, self.held)
        now, before = set(manifest.unit_ids), () if old is None else (*old.superseded, *old.unit_ids)
        superseded = [unit for unit in dict.fromkeys([*before, *sorted(self._looked)]) if unit not in now]
        self._say(structs.replace(manifest, superseded=tuple(superseded)))
        self.folder.log(*(Stepped(msgspec.to_builtins(step)) for step in steps[self._steps :]))
        self._steps = max(self._steps, len(steps))

    def _say(self, manifest: RunManifest) -> None:
        """Writes the header of this command, and later into the log what has changed."""
        self.manifest, before = manifest, self._said
        self._said = msgspec.to_builtins(manifest)
        if before is None:
            self.folder.begin(self._said)
        else:
            self.folder.log(change_between(before, self._said))

    def finish(self, results: Results, outlook: Sequence[Outlook] = ()) -> None:
        """Removes what is no longer needed and writes the reports."""
        self.store.remove()
        plan = self.evaluation.begun(results.steps)
        remarks = [*self._too_dear(results), *remarks_on(plan.units, self.done.metadata)]
        self._remarks.update(dict.fromkeys(remarks))
        self.write(results.steps, finished=True)
        if not self.done.failures:
            self.folder.remove(self.manifest.superseded)
            self.manifest = structs.replace(self.manifest, superseded=())
        self.manifest = structs.replace(self.manifest, outlook=tuple(outlook), finished=True)
        kept = [*self.manifest.unit_ids, *self.manifest.superseded]
        self.folder.end(msgspec.to_builtins(self.manifest), kept)
        put_together(self.folder.path, kept)
        run = load_run(self.folder.path)
        from robustbench_coded.reports.run.methodology import faulty, left_out
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
        if self._said is not None:
            self._say(structs.replace(self.manifest, code={**self.manifest.code, **prepared.code}))

    def look_up(self, units: Sequence[Unit]) -> None:
        """Takes over what the folder holds of these units, with their perturbed inputs if those are kept."""
        unknown = [unit for unit in units if unit.id not in self._looked]
        self._looked |= {unit.id for unit in unknown}
        if self.evaluation.old is None:  # the folder holds none
            return
        held = {unit.id for unit in unknown}
        if self.evaluation.prepared.config.keeps_adversarials:
            attacked = (unit for unit in unknown if unit.case.attack != CLEAN and not unit.random_batches)
            held -= {unit.id for unit in attacked if unit.id not in self.store}
        self.done.metadata.update(self.folder.committed(held)[0])

    def _look_through(self, old: RunManifest) -> None:
        """Takes note of the units that the folder holds; files that can't be trusted are set aside."""
        held, damaged = self.folder.committed([*old.unit_ids, *old.superseded])
        self.held = frozenset(held)
        for text in said_of(damaged, self.folder.set_aside(damaged)):
            self.listener.note(text)


def said_of(damaged: Mapping[str, str], aside: Sequence[Path]) -> list[str]:
    """What was wrong with files of a run folder, each said once, and what they are called now."""
    names = f" (kept as {', '.join(path.name for path in aside[:3])})" if aside else ""
    reasons = list(dict.fromkeys(damaged.values()))
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    again = "its unit is" if len(damaged) == 1 else f"{len(damaged)} units are"
    return [f"{'; '.join(reasons[:3])}{more}; {again} computed again{names}"] if reasons else []
