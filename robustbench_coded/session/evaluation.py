"""An evaluation in progress, as its steps and the run folder tell it: the units of what has begun, run.json,
and the evidence for the next step. Nothing here runs or writes anything.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from robustbench_coded.evaluation.execution.attack_group import hidden_sources
from robustbench_coded.evaluation.execution.run_unit import random_units
from robustbench_coded.evaluation.planning.cases import AttackCase, Unit
from robustbench_coded.evaluation.planning.comparisons import Comparison, looks
from robustbench_coded.evaluation.planning.follow_up import follow_up
from robustbench_coded.evaluation.planning.plan import Plan, rows_for
from robustbench_coded.evaluation.planning.resubmission import measured_attacks, resubmissions, share_left
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run
from robustbench_coded.schema.case import CaseKey
from robustbench_coded.schema.manifest import RunManifest, Sequential, Stop
from robustbench_coded.schema.words import CLEAN, CONTROLS, VerdictWord
from robustbench_coded.session.manifest import Kept, new_manifest
from robustbench_coded.session.schedule import (
    EvaluationPlan,
    Evidence,
    Standing,
    Step,
    open_comparisons,
    size_of,
)
from robustbench_coded.statistics.verdict import is_final


def remarks_on(plan: Plan, metadata: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each row with units whose forwards had to be smaller than planned, or failed inputs.

    Args:
        metadata: of the committed units, by id.
    """
    smaller = Counter(
        (unit.row, metadata[unit.id]["group_images"])
        for unit in plan.units
        if "group_images" in metadata.get(unit.id, {})
    )
    unanswered: Counter[AttackCase] = Counter()
    relaxed: Counter[AttackCase] = Counter()
    first: dict[AttackCase, Sequence[int]] = {}  # an example and a draw
    for unit in plan.units:
        found = metadata.get(unit.id, {})
        unanswered[unit.row] += found.get("unanswered", 0)
        relaxed[unit.row] += found.get("without_gradient", 0)
        if "unanswered_at" in found:
            first.setdefault(unit.row, found["unanswered_at"])
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
    cases: Sequence[AttackCase], units_of: Callable[[AttackCase], Sequence[Unit]], notes: Sequence[str]
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
    cases, notes = rows_for(prepared.config, prepared.subjects, prepared.eps)
    return plan_of(cases, prepared.maker().units, notes)


@dataclass(frozen=True)
class Evaluation:
    """What does not change while an evaluation runs.

    Rows that an earlier evaluation left in the folder, and that this one may plan, are hidden until it begins
    them again: what it does follows from the options and from the outcomes of its own steps, so that an
    interrupted evaluation goes on as if nothing had happened.

    Attributes:
        plan: what may run.
        notes: sentences on rows that will not run.
        old: the manifest that the folder held before; kept: what of it stays.
        sequential: how cases get their number of examples; None where all run on all.
    """

    prepared: PreparedEvaluation
    plan: EvaluationPlan
    notes: tuple[str, ...]
    old: RunManifest | None
    kept: Kept
    sequential: Sequential | None
    _units: dict[tuple[AttackCase, int], Sequence[Unit]] = field(default_factory=dict)

    def units(self, case: AttackCase, size: int) -> Sequence[Unit]:
        """The units of a case on its first so many examples."""
        if (case, size) not in self._units:
            self._units[case, size] = self.prepared.maker(size).units(case)
        return self._units[case, size]

    def begun(self, steps: Sequence[Step]) -> Plan:
        """What has begun, in the order of tables, with its units."""
        sizes = Evidence(tuple(steps)).sizes
        order = {case: place for place, case in enumerate(self.plan.cases)}
        cases = sorted(sizes, key=lambda case: order.get(case, len(order)))
        return plan_of(cases, lambda case: self.units(case, sizes[case]), self.notes)

    def random(self, steps: Sequence[Step]) -> dict[AttackCase, list[Unit]]:
        """The units in random batches, by case."""
        random = Evidence(tuple(steps)).random
        maker = self.prepared.maker
        return {case: random_units(case, maker(part.size), part.batches) for case, part in random.items()}

    def manifest(
        self, steps: Sequence[Step], stops: Sequence[Stop] = (), remarks: Sequence[str] = ()
    ) -> RunManifest:
        """run.json with what has begun.

        Args:
            stops: the verdicts that are settled. remarks: sentences for the reader of the report.
        """
        ran = Evidence(tuple(steps))
        in_steps = self.sequential is not None and not self.plan.table_first
        judged = set(ran.sizes) - ran.for_table if in_steps else set()
        short = {case for case in ran.for_table if ran.sizes[case] < self._rests_on(case, ran)}
        fresh = new_manifest(
            self.prepared,
            self.begun(steps),
            sizes=ran.sizes,
            looks={case: looks(self.plan.sizes) for case in judged if case.attack not in CONTROLS},
            table=short,
            random=self.random(steps),
        )
        before = () if self.old is None else self.old.notes
        sequential = self.sequential and structs.replace(self.sequential, stops=tuple(stops))
        notes = tuple(dict.fromkeys([*fresh.notes, *remarks, *before]))
        return self.kept.extended_by(structs.replace(fresh, notes=notes, sequential=sequential))

    def _rests_on(self, case: AttackCase, ran: Evidence) -> int:
        """The examples that the verdict of a case's comparison rests on; 0 where it has none."""
        own = [
            comparison
            for comparison in self.plan.judged
            if comparison.holds(case) and not (case.attack in CONTROLS and comparison.one_victim)
        ]
        return max((size_of(self.plan, ran, comparison) for comparison in own), default=0)

    def evidence(
        self, steps: Sequence[Step], path: Path, metadata: Mapping[str, Mapping[str, Any]]
    ) -> Evidence:
        """What ran, and what its committed outcomes say.

        Args:
            path: the run folder.
            metadata: of its committed units, by id.
        """
        ran = Evidence(tuple(steps))
        if not steps:
            return ran
        run = Run(path, self.manifest(steps))
        judgements = {judgement.key.setting: judgement for judgement in run.judgements}
        shares = {
            case: share
            for case, size in ran.sizes.items()
            if (share := share_left(case, self.units(case, size), metadata)) is not None
        }
        standings = {
            setting: self._standing(comparison, judgement, judgements)
            for comparison, settings in self.plan.judged.items()
            for setting in settings
            if (judgement := judgements.get(setting)) is not None
        }
        ran = replace(ran, shares=shares, standings=standings)
        open_ = open_comparisons(self.plan, ran)
        offered_to = list(self.plan.judged) if self.plan.submits_everywhere else open_
        ran = replace(ran, submissions=tuple(self._submissions(ran, offered_to, metadata)))
        if not open_:
            return ran
        # What would run on all examples is not compared with what ran on the first of them.
        size = max(size_of(self.plan, ran, comparison) for comparison in open_)
        planned = [case for case in self.plan.cases if case in ran.sizes]
        checks, remarks = follow_up(judgements.values(), list(ran.sizes), self.prepared.maker(size), planned)
        return replace(ran, checks=tuple(checks), remarks=tuple(remarks) if self.plan.checks else ())

    def _standing(
        self, comparison: Comparison, judgement: Judgement, judgements: Mapping[CaseKey, Judgement]
    ) -> Standing:
        verdict, config = judgement.verdict, self.prepared.config
        base = self.plan.base(comparison)
        at = None if base is None else judgements.get(self.plan.judged[base][0])
        accuracy = None if at is None else at.verdict.accuracy
        low = 0.0 if accuracy is None else accuracy.low
        final = is_final(verdict, low, self.prepared.setup.examples)
        if config.until == "claim":
            final = verdict.word == VerdictWord.CLAIM_REFUTED
        return Standing(verdict.word, verdict.above_the_bar, final)

    def _submissions(
        self, ran: Evidence, open_: Sequence[Comparison], metadata: Mapping[str, Mapping[str, Any]]
    ) -> list[AttackCase]:
        """What may be submitted to these comparisons of whole batches and was not."""
        sizes = [size_of(self.plan, ran, comparison) for comparison in open_ if comparison.inputs == "batch"]
        if not sizes:
            return []
        cases = [case for case, size in ran.sizes.items() if size >= max(sizes)]
        units = [unit for case in cases for unit in self.units(case, ran.sizes[case])]
        measured = measured_attacks(cases, units, metadata)
        context = self.prepared.context
        hidden = hidden_sources(context, cases)
        offered = resubmissions(measured, hidden, self.prepared.maker(max(sizes)), context.levels)
        known = {case.key for case in ran.sizes}
        return [case for case in offered if case.key not in known]
