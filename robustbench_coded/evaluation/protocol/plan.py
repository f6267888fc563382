"""What the protocol decides from: the plan, which is fixed before anything runs, and the results, which are
what the judge says of the steps so far. Costs are gradient evaluations (``Unit.images``), never seconds, so
that every machine takes the same steps.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject
from robustbench_coded.evaluation.planning.comparisons import (
    Comparison,
    comparison_of,
    looks,
    random_batch_images,
)
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.checks import accuracy_of
from robustbench_coded.judge.intervals import TAIL
from robustbench_coded.judge.verdict import Verdict
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.manifest import Stage
from robustbench_coded.schema.words import CONTROLS, STANDARD, Rung


class Ceilings(NamedTuple):
    """Gradient evaluations that may be spent; None for no limit.

    The first attack on a verdict, the first random batches that should settle it and the named rows are
    always paid.

    Attributes:
        verdict: on each open verdict; as many times more as a defence has copies of an input.
        extras: where attacks are named, on random batches, submissions and checks together.
        victims: on each open verdict on victims that was not requested, where ``verdict`` has no limit.
        checks: True if what a check asks for may cost no more than `follow_up` allows, and as often.
    """

    verdict: int | None = None
    extras: int | None = None
    victims: int | None = None
    checks: bool = True


@dataclass(frozen=True)
class Need:
    """A step that would settle verdicts: cases that may run side by side.

    Attributes:
        rung: that asks for it.
        reason: why, in a sentence without its end.
        cases: that run on the first ``images``; or, with ``batches``, that ran on them.
        images: the sample size.
        batches: in how many random batches in all their perturbed inputs are scored; 0 where they attack.
        wider: True if verdicts rest on more images from here on.
        costs: gradient evaluations that each case adds, about.
    """

    rung: Rung
    reason: str
    cases: tuple[PlannedCase, ...] = ()
    images: int = 0
    batches: int = 0
    wider: bool = False
    costs: tuple[int, ...] = ()

    @property
    def gradients(self) -> int:
        """Of all cases."""
        return sum(self.costs)

    def __str__(self) -> str:
        """``one cheap attack on each open verdict: pgd-20 (640 gradient evaluations)``."""
        attacks = [name for name in dict.fromkeys(case.attack for case in self.cases) if name not in CONTROLS]
        more = f" and {len(attacks) - 2} more" if len(attacks) > 2 else ""
        named = f": {', '.join(attacks[:2])}{more}" if attacks else ""
        return f"{self.reason}{named} ({self.gradients:,} gradient evaluations)"


@dataclass(frozen=True)
class EvaluationPlan:
    """The cases that may run, and what is known of them before anything has.

    Attributes:
        cases: in the order of tables.
        judged: the settings by which each comparison is settled.
        sizes: sample sizes, increasing; the last one is all.
        start: the first size of verdicts.
        images: what a case costs at a sample size.
        size: the one that is planned for. about: the comparisons that are asked about on it.
        protocol: the attacks of the default, without which no verdict is positive, planned here or not.
        stages: the same, by name, for the judge.
        rows: the cases that run whatever the others find, on the first size.
        deferred: the attacks that run only before a positive verdict.
        starts: the size that the folder holds of comparisons, where that is more than the first.
        kept: inputs that earlier commands submitted, which stay, and on how many images.
        everything: True if every row runs on all examples.
        rungs: those that may run; empty for all.
        checks: True if attacks of the checks may run.
        random_batches: True if a batch may be any of the images: their order is random.
        levels: of the data's pixels, where fewer than 8 bits have; None where more.
        relus: how many ReLUs answer an image of a checkpoint; 0 where crossover is not run.
        hidden: attacks on a user defence's checkpoint that it meets although they are no rows.
    """

    cases: tuple[PlannedCase, ...]
    judged: Mapping[Comparison, tuple[Case, ...]]
    sizes: tuple[int, ...]
    start: int
    images: Callable[[PlannedCase, int], int]
    size: int = 0
    about: tuple[Comparison, ...] = ()
    starts: Mapping[Comparison, int] = field(default_factory=dict)
    kept: Mapping[Case, int] = field(default_factory=dict)
    protocol: tuple[PlannedCase, ...] = ()
    stages: tuple[Stage, ...] = ()
    rows: frozenset[PlannedCase] = frozenset()
    deferred: frozenset[PlannedCase] = frozenset()
    ceilings: Ceilings = field(default_factory=Ceilings)
    everything: bool = False
    rungs: tuple[Rung, ...] = ()
    checks: bool = True
    random_batches: bool = True
    levels: int | None = None
    relus: Callable[[str], int] = lambda checkpoint: 0
    hidden: Mapping[ProbedSubject, tuple[PlannedCase, ...]] = field(default_factory=dict)

    def at(self, size: int, wider: Iterable[Comparison] = ()) -> "EvaluationPlan":
        """The plan on so many images: of comparisons that start there, and of those that need as many."""
        about = [c for c in self.judged if self.starts.get(c, self.start) == size or c in wider]
        bases = [base for comparison in about if (base := self.base(comparison)) is not None]
        return replace(self, size=size, about=tuple(dict.fromkeys([*about, *bases])))

    @cached_property
    def attacks(self) -> dict[Comparison, list[PlannedCase]]:
        """The attacks planned on each comparison."""
        attacks: dict[Comparison, list[PlannedCase]] = {comparison: [] for comparison in self.judged}
        for case in self.cases:
            if case.attack not in CONTROLS:
                attacks.setdefault(comparison_of(case), []).append(case)
        return attacks

    @property
    def tail(self) -> float:
        """The error of each end of an interval where a verdict is decided on so many examples."""
        return TAIL / looks(self.sizes, self.size)

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
class Results:
    """The steps that ran, and what the judge makes of their outcomes.

    Attributes:
        steps: so far, in order.
        rows: the results of cases with all of their outcomes.
        digests: equal for equal perturbed inputs; none where a unit has none.
        verdicts: by setting. strongest: the attacks within 3 points of the strongest, by setting.
        unscored: the attacks whose random batches the lower end of the ensemble needs, by setting.
    """

    steps: tuple[Need, ...] = ()
    rows: Mapping[PlannedCase, CaseResult] = field(default_factory=dict)
    digests: Mapping[PlannedCase, str] = field(default_factory=dict)
    verdicts: Mapping[Case, Verdict] = field(default_factory=dict)
    strongest: Mapping[Case, tuple[Case, ...]] = field(default_factory=dict)
    unscored: Mapping[Case, tuple[Case, ...]] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> dict[PlannedCase, int]:
        """The sample size that each case ran at, in the order in which cases began."""
        sizes: dict[PlannedCase, int] = {}
        for step in self.steps:
            if step.wider:  # what is submitted on more examples is made of what attacks make there
                wider = {comparison_of(case) for case in step.cases}
                sizes = {c: n for c, n in sizes.items() if not c.submission or comparison_of(c) not in wider}
            if not step.batches:
                sizes |= {case: max(sizes.get(case, 0), step.images) for case in step.cases}
        return sizes

    @cached_property
    def batches(self) -> dict[PlannedCase, tuple[int, int]]:
        """Each case's random batches, and the sample size of their images."""
        scored = {
            case: (step.batches, step.images) for step in self.steps if step.batches for case in step.cases
        }
        return {case: batches for case, batches in scored.items() if case in self.sizes}

    def ran(self, comparison: Comparison) -> dict[PlannedCase, int]:
        """The attacks of a comparison that have begun, each with its sample size."""
        attacks = (case for case in self.sizes if case.attack not in CONTROLS)
        return {case: self.sizes[case] for case in attacks if comparison_of(case) == comparison}

    def size_of(self, plan: EvaluationPlan, comparison: Comparison) -> int:
        """The sample size that a verdict rests on."""
        return max(self.ran(comparison).values(), default=plan.start)

    def near(self, plan: EvaluationPlan, comparison: Comparison) -> list[PlannedCase]:
        """The attacks within 3 points of the strongest."""
        cases = {case for setting in plan.judged[comparison] for case in self.strongest.get(setting, ())}
        return [planned for planned in self.sizes if planned.case in cases]

    @cached_property
    def spent(self) -> list[tuple[PlannedCase, int]]:
        """The cost of every case of every step, in order."""
        return [pair for step in self.steps for pair in zip(step.cases, step.costs, strict=True)]

    @property
    def tested(self) -> bool:
        return any(step.rung == Rung.SELF_TESTS for step in self.steps)

    def at(self, size: int) -> list[Need]:
        """The steps at a sample size."""
        return [step for step in self.steps if step.images == size]

    def share(self, case: PlannedCase) -> float | None:
        """Accuracy under a case; None while outcomes are missing."""
        return accuracy_of(self.rows[case]) if case in self.rows else None

    def shares(self, cases: Iterable[PlannedCase]) -> list[float]:
        return [accuracy_of(self.rows[case]) for case in cases if case in self.rows]

    def of(self, plan: EvaluationPlan, comparison: Comparison) -> list[Verdict | None]:
        """The verdicts of a comparison; None before any attack was judged."""
        return [self.verdicts.get(setting) for setting in plan.judged[comparison]]

    def needs(self, plan: EvaluationPlan, comparison: Comparison, rung: Rung) -> bool:
        """True if a verdict of the comparison asks for a rung."""
        return any(verdict is None or rung in verdict.needs.rungs for verdict in self.of(plan, comparison))

    def settled(self, plan: EvaluationPlan) -> list[Comparison]:
        """Comparisons whose verdict nothing can change; a base model's is open while a defence's is."""
        final = [c for c in plan.judged if all(v and not v.needs.rungs for v in self.of(plan, c))]
        needed = {plan.base(comparison) for comparison in plan.judged if comparison not in final}
        return [c for c in final if c not in needed or 0 in self.shares(plan.attacks[c])]

    def open(self, plan: EvaluationPlan, victims: bool) -> list[Comparison]:
        """Comparisons that are asked about and not settled: those of single victims, or the others."""
        closed = self.settled(plan)
        return [c for c in plan.about if c not in closed and c.one_victim == victims]

    def by_base(self, plan: EvaluationPlan, comparison: Comparison) -> bool:
        """True if only what the base model loses can change the verdict."""
        return all(v is not None and v.needs.base_alone for v in self.of(plan, comparison))


def waiting(
    plan: EvaluationPlan, results: Results, comparison: Comparison, *, deferred: bool = False
) -> list[PlannedCase]:
    """The attacks planned on a comparison that have not run: the ``deferred``, or all others."""
    planned = plan.attacks[comparison]
    return [c for c in planned if results.sizes.get(c, 0) < plan.size and (c in plan.deferred) == deferred]


def mixes_starts(case: PlannedCase) -> bool:
    """True for attacks that mix the results of several starts, which have a ceiling of their own."""
    return case.made_by is not None and not case.submission and case.made_by.declared.counts_starts


def priced(plan: EvaluationPlan, results: Results, need: Need) -> Need:
    """The same with what it costs beyond what ran."""
    return replace(need, costs=tuple(_price(plan, results, case, need) for case in need.cases))


def _price(plan: EvaluationPlan, results: Results, case: PlannedCase, need: Need) -> int:
    if need.batches:
        before, size = results.batches.get(case, (0, 0))
        return (need.batches - (before if size == need.images else 0)) * random_batch_images(case)
    before = results.sizes.get(case, 0)
    return plan.images(case, need.images) - (plan.images(case, before) if before else 0)


def verdict_fits(plan: EvaluationPlan, results: Results, comparison: Comparison, cost: int) -> bool:
    """True if a verdict may cost so much more, mixed starts aside."""
    most = plan.ceilings.verdict
    if most is None and comparison.one_victim:
        most = plan.ceilings.victims
    if most is None:
        return True
    attacks = (pair for pair in results.spent if pair[0].attack not in CONTROLS and not mixes_starts(pair[0]))
    spent = sum(paid for case, paid in attacks if comparison_of(case) == comparison)
    return spent + cost <= most * comparison.subject.copies


def extras_fit(plan: EvaluationPlan, results: Results, cost: int) -> bool:
    """True if what no user named may cost so much more, where attacks are named."""
    if plan.ceilings.extras is None:
        return True
    planned = set(plan.cases)
    used = sum(
        paid
        for step in results.steps
        for case, paid in zip(step.cases, step.costs, strict=True)
        if step.batches or case not in planned
    )
    return used + cost <= plan.ceilings.extras


def affordable(
    plan: EvaluationPlan, results: Results, rung: Rung, reason: str, cases: Iterable[PlannedCase]
) -> Need | None:
    """A step of cases that have not run, each in its order while its comparison and all extras have room;
    None for an empty one.
    """
    need = Need(rung, reason, (), plan.size)
    for case in cases:
        if results.sizes.get(case, 0) >= plan.size or case in need.cases:
            continue
        ahead = replace(results, steps=(*results.steps, need)) if need.cases else results
        cost = _price(plan, results, case, need)
        fits = mixes_starts(case) or verdict_fits(plan, ahead, comparison_of(case), cost)
        if fits and (case in plan.cases or extras_fit(plan, ahead, cost)):
            need = replace(need, cases=(*need.cases, case), costs=(*need.costs, cost))
    return need if need.cases else None
