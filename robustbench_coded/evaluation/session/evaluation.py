"""An evaluation in progress, as its steps and the run folder tell it: the units of what has begun, run.json,
and the evidence for the next step. Nothing here runs or writes anything.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec import structs

from attacks.relaxation import LEVELS
from robustbench_coded.evaluation.execution.run_unit import random_units
from robustbench_coded.evaluation.planning.cases import PlannedCase, Unit
from robustbench_coded.evaluation.planning.comparisons import Comparison, looks
from robustbench_coded.evaluation.planning.plan import Plan, UnitMaker, cases_for
from robustbench_coded.evaluation.protocol.rungs import SELF_TESTS, VERSION
from robustbench_coded.evaluation.protocol.state import (
    EvaluationPlan,
    Evidence,
    Outcome,
    OpenCheck,
    Standing,
    Step,
)
from robustbench_coded.evaluation.session.manifest import new_manifest
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import Run
from robustbench_coded.judge.verdict import NEXT_TO_NOTHING, is_final
from robustbench_coded.runs.adversarials import DIGEST, sum_of
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.manifest import NotRun, Protocol, RunManifest, SampleSizes
from robustbench_coded.schema.words import CLEAN, CONTROLS, VerdictName

Metadata = Mapping[str, Mapping[str, Any]]  # of the committed units, by id


def remarks_on(units: Sequence[Unit], metadata: Metadata) -> list[str]:
    """A sentence for each case with units whose forwards had to be smaller than planned, with failed inputs,
    or with operators that could not be relaxed.

    Args:
        units: those in random batches do not count.
        metadata: of the committed units, by id.
    """
    units = [unit for unit in units if not unit.random_batches]
    smaller = Counter(
        (unit.case, metadata[unit.id]["group_images"])
        for unit in units
        if "group_images" in metadata.get(unit.id, {})
    )
    unanswered: Counter[PlannedCase] = Counter()
    without_gradient: Counter[PlannedCase] = Counter()
    relaxed_less: Counter[tuple[PlannedCase, str]] = Counter()
    first: dict[PlannedCase, Sequence[int]] = {}  # an example and a draw
    for unit in units:
        found = metadata.get(unit.id, {})
        unanswered[unit.case] += found.get("unanswered", 0)
        without_gradient[unit.case] += found.get("without_gradient", 0)
        for level, left in enumerate(LEVELS[1:], start=1):
            relaxed_less[unit.case, left] += found.get(f"relaxed_{level}", 0)
        if "unanswered_at" in found:
            first.setdefault(unit.case, found["unanswered_at"])
    said = [
        f"{case.attack} ({case.threat}) on {case.subject.checkpoint} behind {case.subject.label}: out of "
        f"memory, {count} units were answered in forwards of at most {images} images, and their last digits "
        "may differ from those of a run with more memory."
        for (case, images), count in smaller.items()
    ]
    for case, (example, draw) in first.items():
        asked = "clean inputs" if case.attack == CLEAN else f"{case.attack} ({case.threat})"
        said.append(
            f"{case.subject.label} on {case.subject.checkpoint}: {unanswered[case]} answers to {asked} were "
            f"exceptions, NaN or infinite, the first to image {example} in draw {draw}; they count as wrong."
        )
    said += [
        f"{case.subject.label} on {case.subject.checkpoint} raised an exception under relaxed operators: "
        f"{case.attack} ({case.threat}) ran on {count} inputs with {left}."
        for (case, left), count in relaxed_less.items()
        if count
    ]
    return said + [
        f"{case.subject.label} on {case.subject.checkpoint} could not be differentiated at {count} inputs by "
        f"{case.attack} ({case.threat}), which went on there with smooth operators (relaxed-)."
        for case, count in without_gradient.items()
        if count
    ]


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


def make_plan(prepared: PreparedEvaluation) -> Plan:
    """Every case that may run, on all of its examples."""
    cases, notes = cases_for(prepared.requested, prepared.setup.conditions, prepared.subjects)
    return plan_of(cases, prepared.maker().units, notes)


@dataclass(frozen=True)
class Evaluation:
    """What does not change while an evaluation runs.

    What it does follows from the options and from the outcomes of its own steps, whatever earlier evaluations
    left in the folder, so that an interrupted one goes on as if nothing had happened.

    Attributes:
        plan: what may run.
        notes: on cases that will run otherwise than asked for, or not.
        old: the manifest that the folder held before.
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

    def begun(self, steps: Sequence[Step]) -> Plan:
        """What has begun, in the order of tables, with its units; those in random batches come last."""
        ran = Evidence(tuple(steps))
        order = {case: place for place, case in enumerate(self.plan.cases)}
        cases = sorted(ran.sizes, key=lambda case: order.get(case, len(order)))
        plan = plan_of(cases, lambda case: self.maker(ran.sizes[case]).units(case), self.notes)
        random = (
            random_units(case, self.maker(part.size), part.batches) for case, part in ran.random.items()
        )
        return replace(plan, units=(*plan.units, *chain.from_iterable(random)))

    def manifest(
        self,
        steps: Sequence[Step],
        remarks: Sequence[str] = (),
        *,
        stopped: bool = False,
        planned: bool = False,
    ) -> RunManifest:
        """What has begun, without what earlier evaluations left.

        Args:
            remarks: sentences for the reader of the report.
            stopped: True until every rung has been asked: nothing is praised before.
            planned: adds the cases that have not begun, which have no units.
        """
        ran = Evidence(tuple(steps))
        in_steps = self.sequential is not None and not self.plan.everything
        judged = [case for case in ran.sizes if in_steps and case.attack not in CONTROLS]
        begun = self.begun(steps)
        waiting = [case for case in self.plan.cases if case not in ran.sizes] if planned else []
        fresh = new_manifest(
            self.prepared,
            replace(begun, cases=(*begun.cases, *waiting)),
            sizes=ran.sizes,
            looks={case: looks(self.plan.sizes, ran.sizes[case]) for case in judged},
        )
        notes = tuple(dict.fromkeys([*fresh.notes, *remarks]))
        rungs = tuple(dict.fromkeys(step.rung for step in steps))
        protocol = Protocol(version=VERSION, rungs=rungs, stopped=stopped)
        return structs.replace(fresh, notes=notes, sequential=self.sequential, protocol=protocol)

    def evidence(self, steps: Sequence[Step], path: Path, metadata: Metadata) -> Evidence:
        """What ran, and what its committed outcomes say.

        Args:
            path: the run folder.
        """
        ran = Evidence(tuple(steps))
        outcomes = {
            case: found
            for case, size in ran.sizes.items()
            if (found := _found(case, self.maker(size).units(case), metadata)) is not None
        }
        if all(case.attack in CONTROLS for case in ran.sizes):
            return replace(ran, outcomes=outcomes)  # nothing is judged before an attack
        # Whatever self-tests an earlier evaluation left in the folder, they are read once they are asked for.
        tested = any(step.rung == SELF_TESTS for step in steps)
        run = Run(path, self.manifest(steps, stopped=not tested))
        judgements = {one.case.setting: one for one in run.judgements}
        compared_with = {
            setting: base
            for comparison, settings in self.plan.judged.items()
            for setting in settings
            if (base := self.plan.base(comparison)) is not None
        }
        standings = {
            setting: self._standing(judgement, compared_with.get(setting), judgements, tested=tested)
            for setting, judgement in judgements.items()
        }
        return replace(ran, outcomes=outcomes, standings=standings)

    def _standing(
        self,
        judgement: Judgement,
        base: Comparison | None,
        judgements: Mapping[Case, Judgement],
        *,
        tested: bool,
    ) -> Standing:
        verdict = judgement.verdict
        at = None if base is None else judgements.get(self.plan.judged[base][0])
        accuracy = None if at is None else at.verdict.accuracy
        low = 0.0 if accuracy is None else accuracy.low
        final = is_final(verdict, low, self.prepared.setup.examples)
        if self.prepared.config.until == "claim":
            final = verdict.name == VerdictName.CLAIM_REFUTED
        return Standing(
            verdict.name,
            verdict.above_the_bar,
            final,
            verdict.could_fall,
            verdict.accuracy is not None and verdict.accuracy.low > NEXT_TO_NOTHING,
            judgement.unbounded_eps,
            tuple(
                OpenCheck(check.name, check.failed, tuple(check.run_next))
                for check in verdict.checks
                if tested and not check.passed
            ),
        )


def _found(case: PlannedCase, units: Sequence[Unit], metadata: Metadata) -> Outcome | None:
    """What the outcomes of a case say; None while units of it are missing."""
    if not units or any(unit.id not in metadata for unit in units):
        return None
    facts = [metadata[unit.id] for unit in units]

    def total(name: str) -> int:
        return sum(int(one.get(name, 0)) for one in facts)

    seen = case.subject.randomised and not case.threat.draw_known
    purpose = "selection" if seen else "scoring"
    if not (answers := total(f"answers_{purpose}")):
        return None
    share = total(f"right_{purpose}") / answers
    return Outcome(share, total("right_scoring"), sum_of(one.get(DIGEST) for one in facts))
