"""An evaluation in progress, as its steps and the run folder tell it: the units of what has begun, run.json,
and the results that the next step follows from. Nothing here runs or writes anything.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec import structs

from attacks.relaxation import LEVELS
from robustbench_coded.evaluation.execution.run_unit import random_units
from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.evaluation.planning.comparisons import looks
from robustbench_coded.evaluation.planning.plan import Plan, UnitMaker
from robustbench_coded.evaluation.protocol.plan import EvaluationPlan, Need, Results
from robustbench_coded.evaluation.protocol.rungs import VERSION
from robustbench_coded.evaluation.session.manifest import new_manifest, with_earlier
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.judge.run import RunData
from robustbench_coded.runs.adversarials import DIGEST, sum_of
from robustbench_coded.schema.manifest import NotRun, Protocol, RunManifest, SampleSizes
from robustbench_coded.schema.words import CLEAN, CONTROLS, ENSEMBLE

Metadata = Mapping[str, Mapping[str, Any]]  # of the committed units, by id


def remarks_on(units: Sequence[Unit], metadata: Metadata) -> list[str]:
    """A sentence for each case with units whose forwards had to be smaller than planned, with failed inputs,
    or with operators that could not be relaxed.

    Args:
        units: those in random batches do not count.
        metadata: of the committed units, by id.
    """
    facts: dict[PlannedCase, list[Mapping[str, Any]]] = {}
    for unit in units:
        if not unit.random_batches and unit.id in metadata:
            facts.setdefault(unit.case, []).append(metadata[unit.id])
    return [remark for case, own in facts.items() for remark in _remarks(case, own)]


def _remarks(case: PlannedCase, facts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of one case, from the metadata of its units."""
    label, where = f"{case.attack} ({case.threat})", f"{case.subject.label} on {case.subject.checkpoint}"

    def total(name: str) -> int:
        return sum(own.get(name, 0) for own in facts)

    smaller = Counter(own["group_images"] for own in facts if "group_images" in own)
    for images, units in smaller.items():
        yield (
            f"{label} on {case.subject.checkpoint} behind {case.subject.label}: out of memory, {units} units "
            f"were answered in forwards of at most {images} images, and their last digits may differ from "
            "those of a run with more memory."
        )
    if places := [own["unanswered_at"] for own in facts if "unanswered_at" in own]:
        example, draw = places[0]
        yield (
            f"{where}: {total('unanswered')} answers to {'clean inputs' if case.attack == CLEAN else label} "
            f"were exceptions, NaN or infinite, the first to image {example} in draw {draw}; they count as "
            "wrong."
        )
    for level, operators in enumerate(LEVELS[1:], start=1):
        if count := total(f"relaxed_{level}"):
            yield (
                f"{where} raised an exception under relaxed operators: {label} ran on {count} inputs with "
                f"{operators}."
            )
    if count := total("without_gradient"):
        yield (
            f"{where} could not be differentiated at {count} inputs by {label}, which went on there with "
            "smooth operators (relaxed-)."
        )


def plan_of(
    cases: Sequence[PlannedCase],
    units_of: Callable[[PlannedCase], Sequence[Unit]],
    notes: Sequence[str | NotRun],
) -> Plan:
    """These cases with their units; a case without any is left out, and a note says so."""
    units = {case: units_of(case) for case in cases}
    why = "every batch is so small that it leaves no input to harm"
    empty = [
        NotRun(case.attack, case.subject.label, str(case.threat), why) for case in cases if not units[case]
    ]
    return Plan(
        tuple(case for case in cases if units[case]),
        tuple(unit for case in cases for unit in units[case]),
        tuple(dict.fromkeys([*notes, *empty])),
    )


@dataclass(frozen=True)
class Evaluation:
    """An evaluation without what changes while it runs.

    What it does follows from the options, from what earlier commands left in the folder, and from the
    outcomes of its own steps, so that an interrupted one goes on as if nothing had happened.

    Attributes:
        plan: what may run.
        notes: on cases that run otherwise than requested, or not.
        old: the manifest that the folder held before; what earlier commands left in it is `CaseRecord.kept`.
        sequential: how cases get their number of examples; None where all run on all.
    """

    prepared: PreparedEvaluation
    plan: EvaluationPlan
    notes: tuple[str | NotRun, ...]
    old: RunManifest | None
    sequential: SampleSizes | None
    _makers: dict[int, UnitMaker] = field(default_factory=dict)

    def maker(self, size: int) -> UnitMaker:
        """The one for so many examples, which keeps the units that it has made."""
        return self._makers.setdefault(size, self.prepared.maker(size))

    def begun(self, steps: Sequence[Need]) -> Plan:
        """Cases that have begun, in the order of tables, with their units; random batches come last."""
        ran = Results(tuple(steps))
        order = {case: place for place, case in enumerate(self.plan.cases)}
        cases = sorted(ran.sizes, key=lambda case: order.get(case, len(order)))
        plan = plan_of(cases, lambda case: self.maker(ran.sizes[case]).units(case), self.notes)
        random = (random_units(c, self.maker(size), count) for c, (count, size) in ran.batches.items())
        return replace(plan, units=(*plan.units, *chain.from_iterable(random)))

    def manifest(
        self,
        steps: Sequence[Need],
        remarks: Sequence[str] = (),
        *,
        stopped: bool = False,
        planned: bool = False,
    ) -> RunManifest:
        """The manifest of cases that have begun, without those of earlier evaluations.

        Args:
            remarks: sentences for the reader of the report.
            stopped: True until every rung has run: no verdict is positive before.
            planned: adds the cases that have not begun, which have no units; but for those that only a
                positive verdict asks for.
        """
        ran = Results(tuple(steps))
        judged = [c for c in ran.sizes if self.sequential is not None and c.attack not in CONTROLS]
        begun = self.begun(steps)
        first = [case for case in self.plan.cases if case not in self.plan.deferred] if planned else []
        waiting = [case for case in first if case not in ran.sizes]
        fresh = new_manifest(
            self.prepared,
            replace(begun, cases=(*begun.cases, *waiting)),
            sizes=ran.sizes,
            looks={case: looks(self.plan.sizes, ran.sizes[case]) for case in judged},
        )
        notes = tuple(dict.fromkeys([*fresh.notes, *remarks]))
        rungs = tuple(dict.fromkeys(step.rung for step in steps))
        protocol = Protocol(version=VERSION, rungs=tuple(map(str, rungs)), stopped=stopped)
        return structs.replace(
            fresh,
            notes=notes,
            sequential=self.sequential,
            protocol=protocol,
            stages=self.plan.stages,
        )

    def results(self, steps: Sequence[Need], path: Path, metadata: Metadata) -> Results:
        """The cases that ran, as the judge sees them.

        Args:
            path: the run folder.
        """
        ran = Results(tuple(steps))
        manifest = self.manifest(steps)
        if self.old is not None:
            kept = tuple(record for record in self.old.cases if record.kept)
            manifest = with_earlier(manifest, structs.replace(self.old, cases=kept), self.old.unit_ids)
        run = RunData(path, manifest)
        rows = {row.case: row for row in run.results if row.complete}
        attacked = any(case.attack not in CONTROLS for case in ran.sizes)
        judged = {one.case.setting: one for one in run.judged} if attacked else {}
        made = {row.case.setting: row.combination for row in run.results if row.case.attack == ENSEMBLE}
        return replace(
            ran,
            rows={case: rows[case.case] for case in ran.sizes if case.case in rows},
            digests={c: digest for c in ran.sizes if (digest := self._digest(c, ran.sizes[c], metadata))},
            verdicts={setting: one.verdict for setting, one in judged.items()},
            strongest={setting: combination.near for setting, combination in made.items()},
            unscored={setting: combination.unscored for setting, combination in made.items()},
        )

    def _digest(self, case: PlannedCase, size: int, metadata: Metadata) -> str | None:
        """Equal for equal perturbed inputs."""
        return sum_of(metadata.get(unit.id, {}).get(DIGEST) for unit in self.maker(size).units(case))
