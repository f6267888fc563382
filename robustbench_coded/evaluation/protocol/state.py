"""State of the protocol: the plan and the evidence that it decides from, and the step that it decides.

All three are frozen. The plan is fixed before anything runs. The evidence is what ran so far and what its
committed outcomes say: facts alone. A step is a set of cases that may run side by side. Costs are gradient
evaluations (``Unit.images``), never seconds, so that every machine runs the same steps.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject
from robustbench_coded.evaluation.planning.comparisons import Comparison, comparison_of, looks
from robustbench_coded.judge.intervals import TAIL
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.words import CLEAN, CONTROLS, STANDARD, VerdictName


class Ceilings(NamedTuple):
    """Gradient evaluations that may be spent; None for no limit.

    The first attack on a verdict, the first random batches that should settle it and the named rows are
    always paid.

    Attributes:
        verdict: on each open verdict; as many times more as a defence has copies of an input.
        extras: where attacks are named, on random batches, submissions and checks together.
        victims: on each open verdict on victims that was not requested, where ``verdict`` has no limit.
    """

    verdict: int | None = None
    extras: int | None = None
    victims: int | None = None


@dataclass(frozen=True)
class EvaluationPlan:
    """The cases that may run, and what is known of them before anything has.

    Attributes:
        cases: in the order of tables.
        judged: the settings by which each comparison is settled.
        sizes: sample sizes, increasing; the last one is all.
        start: the sample size that verdicts start at. starts: of comparisons that the folder holds on more.
        images: what a case costs at a sample size.
        rows: the cases that run whatever the others find, on ``start`` examples.
        deferred: the attacks that run only before a positive verdict.
        everything: True if every row runs on all examples.
        rungs: the names of the rungs that may run; empty for all.
        checks: True if attacks of the checks may run.
        margin: the gain over the base model that counts, a fraction.
        random_batches: True if a batch may be any of the images: their order is random.
        claimed: the accuracy that is claimed, by comparison.
        classes: of the data. levels: of its pixels, where fewer than 8 bits have; None where more.
        relus: how many ReLUs answer an image of a checkpoint; 0 where crossover is not run.
        kept: inputs that earlier commands submitted, which stay, and on how many images.
        hidden: attacks on a user defence's checkpoint that it meets although they are no rows.
    """

    cases: tuple[PlannedCase, ...]
    judged: Mapping[Comparison, tuple[Case, ...]]
    sizes: tuple[int, ...]
    start: int
    images: Callable[[PlannedCase, int], int]
    starts: Mapping[Comparison, int] = field(default_factory=dict)
    kept: Mapping[Case, int] = field(default_factory=dict)
    rows: frozenset[PlannedCase] = frozenset()
    deferred: frozenset[PlannedCase] = frozenset()
    ceilings: Ceilings = field(default_factory=Ceilings)
    everything: bool = False
    rungs: tuple[str, ...] = ()
    checks: bool = True
    margin: float = 0.0
    random_batches: bool = True
    claimed: Mapping[Comparison, float] = field(default_factory=dict)
    classes: int = 2
    levels: int | None = None
    relus: Callable[[str], int] = lambda checkpoint: 0
    hidden: Mapping[ProbedSubject, tuple[PlannedCase, ...]] = field(default_factory=dict)

    @cached_property
    def attacks(self) -> dict[Comparison, list[PlannedCase]]:
        """The attacks planned on each comparison."""
        attacks: dict[Comparison, list[PlannedCase]] = {comparison: [] for comparison in self.judged}
        for case in self.cases:
            if case.attack not in CONTROLS:
                attacks.setdefault(comparison_of(case), []).append(case)
        return attacks

    def tail(self, size: int) -> float:
        """The error of each end of an interval where a verdict is decided on so many examples."""
        return TAIL / looks(self.sizes, size)

    def start_of(self, case: PlannedCase) -> int:
        """The sample size that a case starts at."""
        return max((size for c, size in self.starts.items() if c.holds(case)), default=self.start)

    def base(self, comparison: Comparison) -> Comparison | None:
        """The comparison of the base model of a defence."""
        subject = comparison.subject
        if subject.spec == STANDARD or not subject.has_base:
            return None
        same = (c for c in self.judged if c.perturbation == comparison.perturbation)
        checkpoint = (c for c in same if c.subject.checkpoint == subject.checkpoint)
        return next((c for c in checkpoint if c.subject.spec == STANDARD), None)

    def with_base(self, comparison: Comparison) -> list[Comparison]:
        base = self.base(comparison)
        return [comparison] if base is None else [comparison, base]


@dataclass(frozen=True)
class CaseAtSize:
    """A case on its first so many examples; ``images``: what that adds to what ran before."""

    case: PlannedCase
    size: int
    images: int


@dataclass(frozen=True)
class ScheduledRandomBatches:
    """So many random batches of the examples that a case, on whole batches, ran on at a sample size."""

    case: PlannedCase
    batches: int
    size: int
    images: int


@dataclass(frozen=True)
class Step:
    """Cases, each with its sample size, and random batches, that may run side by side.

    Attributes:
        rung: the name of the rung that asks for it.
        reason: why, in a sentence without its end.
        reached: comparisons whose verdict rests on more examples from here on.
    """

    rung: str
    reason: str
    cases: tuple[CaseAtSize, ...] = ()
    random: tuple[ScheduledRandomBatches, ...] = ()
    reached: tuple[tuple[Comparison, int], ...] = ()

    def __str__(self) -> str:
        """``pgd-20: quick, one cheap attack on each open verdict (640 gradient evaluations)``."""
        attacks = list(dict.fromkeys(part.case.attack for part in self.parts))
        more = f" and {len(attacks) - 2} more" if len(attacks) > 2 else ""
        named = f"{', '.join(attacks[:2])}{more}: " if attacks else ""
        return f"{named}{self.rung}, {self.reason} ({self.images:,} gradient evaluations)"

    @property
    def images(self) -> int:
        """Gradient evaluations, about."""
        return sum(part.images for part in self.parts)

    @property
    def parts(self) -> list[CaseAtSize | ScheduledRandomBatches]:
        return [*self.cases, *self.random]


class OpenCheck(NamedTuple):
    """A check that did not pass, and the attacks that it asks for."""

    name: str
    failed: bool
    attacks: tuple[str, ...]


class SettingStatus(NamedTuple):
    """The judgement of the outcomes under one setting.

    Attributes:
        above_the_bar: True if figures leave room for a positive verdict, so that it depends on checks alone.
        final: True if nothing that may still run can change the verdict.
        could_fall: True if a stronger attack has a question to answer.
        keeps: True if certainly more than next to nothing is left.
        checks: those that are open.
    """

    verdict: VerdictName = VerdictName.NOT_SETTLED
    above_the_bar: bool = False
    final: bool = False
    could_fall: bool = True
    keeps: bool = True
    checks: tuple[OpenCheck, ...] = ()

    @property
    def by_interval(self) -> bool:
        """True if the verdict is open because its interval contains the threshold."""
        return self.verdict == VerdictName.NOT_SETTLED and not self.above_the_bar


class Outcome(NamedTuple):
    """The committed outcomes of a case.

    Attributes:
        share: of right answers, on the draws that attacks are chosen by.
        right: right answers on scoring draws.
        digest: equal for equal perturbed inputs; None where a unit has none.
    """

    share: float
    right: int = 1
    digest: str | None = None


@dataclass(frozen=True)
class Evidence:
    """The steps that ran, and what their committed outcomes say.

    Attributes:
        steps: so far, in order.
        outcomes: by case with all of its outcomes.
        standings: by setting.
    """

    steps: tuple[Step, ...] = ()
    outcomes: Mapping[PlannedCase, Outcome] = field(default_factory=dict)
    standings: Mapping[Case, SettingStatus] = field(default_factory=dict)

    @property
    def parts(self) -> list[CaseAtSize | ScheduledRandomBatches]:
        return [part for step in self.steps for part in step.parts]

    @cached_property
    def sizes(self) -> dict[PlannedCase, int]:
        """The sample size that each case ran at, in the order in which cases began."""
        sizes: dict[PlannedCase, int] = {}
        for step in self.steps:
            wider = dict(step.reached)
            # What is submitted on more examples is made of what attacks make there.
            stay = (case for case in sizes if not case.submission or comparison_of(case) not in wider)
            sizes = {case: sizes[case] for case in stay}
            sizes |= {part.case: max(sizes.get(part.case, 0), part.size) for part in step.cases}
        return sizes

    @cached_property
    def random(self) -> dict[PlannedCase, ScheduledRandomBatches]:
        """The random batches of each case."""
        scored = {part.case: part for step in self.steps for part in step.random}
        return {case: part for case, part in scored.items() if case in self.sizes}

    @cached_property
    def reached(self) -> dict[Comparison, int]:
        """The sample size that a verdict rests on, where it is not the first."""
        return {comparison: size for step in self.steps for comparison, size in step.reached}

    @cached_property
    def lately(self) -> tuple[Step, ...]:
        """The steps since a verdict was last decided on more examples."""
        last = max((i for i, step in enumerate(self.steps) if step.reached), default=0)
        return self.steps[last:]

    def proofs(self, case: PlannedCase) -> list[int]:
        """The random batches of a case at the sample size that its verdict rests on now, step by step."""
        return [part.batches for step in self.lately for part in step.random if part.case == case]

    def after(self, step: Step) -> "Evidence":
        """The same once a step has run, with no outcome of it known."""
        return replace(self, steps=(*self.steps, step))

    def shares(self, cases: Iterable[PlannedCase]) -> list[float]:
        return [self.outcomes[case].share for case in cases if case in self.outcomes]

    def clean_share(self, subject: ProbedSubject) -> float:
        clean = (case for case in self.sizes if case.attack == CLEAN and case.subject == subject)
        return max(self.shares(clean), default=1.0)


# Questions that rungs ask of both.


def settled(plan: EvaluationPlan, evidence: Evidence) -> list[Comparison]:
    """Comparisons whose verdict nothing can change; a base model's is open while one of its defences is."""
    final = [c for c in plan.judged if all(s.final for s in standings_of(plan, evidence, c))]
    needed = {plan.base(comparison) for comparison in plan.judged if comparison not in final}
    return [c for c in final if c not in needed or 0 in evidence.shares(plan.attacks[c])]


def open_comparisons(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> list[Comparison]:
    """Comparisons that are not settled: those of single victims, or the others."""
    closed = settled(plan, evidence)
    return [c for c in plan.judged if c not in closed and c.one_victim == victims]


def waiting(
    plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, *, deferred: bool = False
) -> list[PlannedCase]:
    """The attacks planned on a comparison that have not run on them: the ``deferred``, or all others."""
    size, planned = size_of(plan, evidence, comparison), plan.attacks[comparison]
    return [c for c in planned if evidence.sizes.get(c, 0) < size and (c in plan.deferred) == deferred]


def mixes_starts(case: PlannedCase) -> bool:
    """True for attacks that mix the results of several starts, which have a ceiling of their own."""
    return case.made_by is not None and not case.submission and case.made_by.declared.counts_starts


def verdict_fits(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, cost: int) -> bool:
    """True if a verdict may cost so much more, mixed starts aside."""
    attacks = (part for part in evidence.parts if part.case.attack not in CONTROLS)
    own = (part for part in attacks if comparison_of(part.case) == comparison)
    spent = sum(part.images for part in own if not mixes_starts(part.case))
    most = plan.ceilings.verdict
    if most is None and comparison.one_victim:
        most = plan.ceilings.victims
    return most is None or spent + cost <= most * comparison.subject.copies


def extras_fit(plan: EvaluationPlan, evidence: Evidence, cost: int) -> bool:
    """True if what no user named may cost so much more, where attacks are named."""
    if plan.ceilings.extras is None:
        return True
    planned = set(plan.cases)
    extra = (p for p in evidence.parts if isinstance(p, ScheduledRandomBatches) or p.case not in planned)
    return sum(part.images for part in extra) + cost <= plan.ceilings.extras


def affordable(plan: EvaluationPlan, evidence: Evidence, cases: Iterable[PlannedCase]) -> list[CaseAtSize]:
    """Cases that have not run, each in its order while its comparison and all extras have room for it."""
    chosen: list[CaseAtSize] = []
    for case in cases:
        own = comparison_of(case)
        ahead = evidence.after(Step("", "", tuple(chosen)))
        for part in at_size(plan, ahead, [case], size_of(plan, evidence, own)):
            if (mixes_starts(case) or verdict_fits(plan, ahead, own, part.images)) and (
                case in plan.cases or extras_fit(plan, ahead, part.images)
            ):
                chosen.append(part)
    return chosen


def at_start(plan: EvaluationPlan, evidence: Evidence, cases: Iterable[PlannedCase]) -> list[CaseAtSize]:
    """The same at the size that each case starts at."""
    return [part for case in cases for part in at_size(plan, evidence, [case], plan.start_of(case))]


def at_size(
    plan: EvaluationPlan, evidence: Evidence, cases: Iterable[PlannedCase], size: int
) -> list[CaseAtSize]:
    """Those of the cases that have not come so far, and what that costs."""
    before = {case: evidence.sizes.get(case, 0) for case in cases}
    spent = {case: plan.images(case, at) if at else 0 for case, at in before.items()}
    return [CaseAtSize(c, size, plan.images(c, size) - spent[c]) for c, at in before.items() if at < size]


def size_of(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> int:
    """The sample size that a verdict rests on; of a radius that is not judged, what the others rest on."""
    if comparison in plan.judged:
        return evidence.reached.get(comparison, plan.starts.get(comparison, plan.start))
    own = (comparison.subject, comparison.inputs)
    same = (size for other, size in evidence.reached.items() if (other.subject, other.inputs) == own)
    return max(same, default=plan.start)


def standings_of(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> list[SettingStatus]:
    """By the settings of the comparison."""
    return [evidence.standings.get(setting, SettingStatus()) for setting in plan.judged[comparison]]
