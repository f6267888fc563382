"""An evaluation in progress, as its steps and the run folder tell it: the units of what has begun, run.json,
and the evidence for the next step. Nothing here runs or writes anything.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec import structs

from attacks.naming import suited
from attacks.presets import OF_SAMPLING, THROUGH_CHECKPOINT
from attacks.relaxation import LEVELS
from robustbench_coded.defences.options import is_user_defence
from robustbench_coded.evaluation.execution.in_memory import Alone, ModelInMemory
from robustbench_coded.evaluation.execution.run_unit import random_units
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject, Unit, planned_case
from robustbench_coded.evaluation.planning.comparisons import Comparison, looks
from robustbench_coded.evaluation.planning.follow_up import follow_up
from robustbench_coded.evaluation.planning.plan import Plan, cases_for
from robustbench_coded.evaluation.planning.resubmission import measured_attacks, resubmissions, share_left
from robustbench_coded.evaluation.session.manifest import new_manifest
from robustbench_coded.evaluation.session.policies import table_sizes
from robustbench_coded.evaluation.session.schedule import (
    EvaluationPlan,
    Evidence,
    Standing,
    Step,
    open_comparisons,
    size_of,
)
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import Run
from robustbench_coded.judge.verdict import is_final
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Subject
from robustbench_coded.schema.manifest import NotRun, RunManifest, SampleSizes
from robustbench_coded.schema.words import CLEAN, CONTROLS, STANDARD, VerdictName


def remarks_on(units: Sequence[Unit], metadata: Mapping[str, Mapping[str, Any]]) -> list[str]:
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
    _units: dict[tuple[PlannedCase, int], Sequence[Unit]] = field(default_factory=dict)

    def units(self, case: PlannedCase, size: int) -> Sequence[Unit]:
        """The units of a case on its first so many examples."""
        if (case, size) not in self._units:
            self._units[case, size] = self.prepared.maker(size).units(case)
        return self._units[case, size]

    def begun(self, steps: Sequence[Step]) -> Plan:
        """What has begun, in the order of tables, with its units; those in random batches come last."""
        ran, maker = Evidence(tuple(steps)), self.prepared.maker
        order = {case: place for place, case in enumerate(self.plan.cases)}
        cases = sorted(ran.sizes, key=lambda case: order.get(case, len(order)))
        plan = plan_of(cases, lambda case: self.units(case, ran.sizes[case]), self.notes)
        random = (random_units(case, maker(part.size), part.batches) for case, part in ran.random.items())
        return replace(plan, units=(*plan.units, *chain.from_iterable(random)))

    def table_left(self, steps: Sequence[Step], held: Collection[str]) -> int:
        """Image gradients of the rows of the table that have not begun.

        Args:
            held: units that the folder held before, which cost nothing.
        """
        if self.plan.ceilings.table == 0:
            return 0
        rows = table_sizes(self.plan, Evidence(tuple(steps)))
        free = {unit.id for unit in self.begun(steps).units} | set(held)
        units = (unit for case, size in rows.items() for unit in self.units(case, size))
        return sum(unit.images for unit in units if unit.id not in free)

    def manifest(
        self, steps: Sequence[Step], remarks: Sequence[str] = (), *, planned: bool = False
    ) -> RunManifest:
        """What has begun, without what earlier evaluations left.

        Args:
            remarks: sentences for the reader of the report.
            planned: adds the cases that have not begun, which have no units.
        """
        ran = Evidence(tuple(steps))
        in_steps = self.sequential is not None and not self.plan.table_first
        judged = set(ran.sizes) - ran.for_table if in_steps else set()
        judged = {case for case in judged if case.attack not in CONTROLS}
        short = {case for case in ran.for_table if ran.sizes[case] < self._rests_on(case, ran)}
        begun = self.begun(steps)
        waiting = [case for case in self.plan.cases if case not in ran.sizes] if planned else []
        fresh = new_manifest(
            self.prepared,
            replace(begun, cases=(*begun.cases, *waiting)),
            sizes=ran.sizes,
            looks={case: looks(self.plan.sizes, ran.sizes[case]) for case in judged},
            table=short,
        )
        notes = tuple(dict.fromkeys([*fresh.notes, *remarks]))
        return structs.replace(fresh, notes=notes, sequential=self.sequential)

    def _rests_on(self, case: PlannedCase, ran: Evidence) -> int:
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
        shares = {
            case: share
            for case, size in ran.sizes.items()
            if (share := share_left(case, self.units(case, size), metadata)) is not None
        }
        ran = replace(ran, shares=shares)
        if all(case.attack in CONTROLS for case in ran.sizes):
            return ran  # nothing is judged before an attack
        run = Run(path, self.manifest(steps))
        judgements = {judgement.case.setting: judgement for judgement in run.judgements}
        standings = {
            setting: self._standing(comparison, judgement, judgements)
            for comparison, settings in self.plan.judged.items()
            for setting in settings
            if (judgement := judgements.get(setting)) is not None
        }
        ran = replace(ran, standings=standings)
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
        self, comparison: Comparison, judgement: Judgement, judgements: Mapping[Case, Judgement]
    ) -> Standing:
        verdict, config = judgement.verdict, self.prepared.config
        base = self.plan.base(comparison)
        at = None if base is None else judgements.get(self.plan.judged[base][0])
        accuracy = None if at is None else at.verdict.accuracy
        low = 0.0 if accuracy is None else accuracy.low
        final = is_final(verdict, low, self.prepared.setup.examples)
        if config.until == "claim":
            final = verdict.name == VerdictName.CLAIM_REFUTED
        return Standing(verdict.name, verdict.above_the_bar, final)

    def _submissions(
        self, ran: Evidence, open_: Sequence[Comparison], metadata: Mapping[str, Mapping[str, Any]]
    ) -> list[PlannedCase]:
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
        known = {case.case for case in ran.sizes}
        return [case for case in offered if case.case not in known]


def hidden_sources(
    context: WorkerContext, cases: Sequence[PlannedCase]
) -> dict[ProbedSubject, list[PlannedCase]]:
    """For each user defence that needs them the attacks on its checkpoint, one for each budget."""
    found: dict[ProbedSubject, list[PlannedCase]] = {}
    evaluated = {case.subject for case in cases}
    for subject in dict.fromkeys(case.subject for case in cases):
        if not is_user_defence(subject.spec) or not _needs(context, subject, evaluated):
            continue
        standard = replace(
            subject,
            subject=Subject(subject.checkpoint, STANDARD, None, None),
            spec=STANDARD,
            randomised=context.samples(context.model(subject.checkpoint)),
            batch_dependent=False,
            has_base=False,
            images=subject.k,
        )
        budgets = {
            case.perturbation: case
            for case in reversed(cases)
            if case.subject == subject and case.attack not in CONTROLS and not case.for_check
        }
        names = OF_SAMPLING if standard.randomised else THROUGH_CHECKPOINT
        found[subject] = [
            planned_case(standard, WHOLE_BATCH, suited(name, budget.norm), budget)
            for budget in budgets
            for name in names
        ]
    return found


def _needs(context: WorkerContext, subject: ProbedSubject, evaluated: set[ProbedSubject]) -> bool:
    """Whether attacks through the user defence's base are not attacks on its checkpoint."""
    model = context.model(subject.checkpoint)
    if isinstance(model, ModelInMemory) and not model.differentiable:
        return False  # these attacks follow its gradient
    if isinstance(model.network, Alone):
        return False  # the user defence came without a model, and this is itself
    beside = any(other.checkpoint == subject.checkpoint and other.spec == STANDARD for other in evaluated)
    return not beside or context.defence(subject).base is not model
