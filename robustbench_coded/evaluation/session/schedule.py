"""What the scheduler decides from, and what it decides: the plan, the evidence, a step.

All three are frozen. The plan is fixed before anything runs; the evidence is what ran so far and what its
committed outcomes say; a step is a set of cases that may run side by side. Costs are images forwarded and
differentiated (``Unit.images``), never seconds, so that every machine runs the same steps.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.planning.comparisons import Comparison, comparison_of, looks
from robustbench_coded.judge.intervals import TAIL
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.words import CONTROLS, STANDARD, VerdictName

# By default, in image gradients; images smaller than 32 x 32 count by their pixels. For scale: 100 steps on
# 256 images cost 25,600.
# What one open verdict may cost in further attacks, checks, submissions, crossover and more random batches
# than the first: the adaptive attacks and their checks on 256 images of a network, most of them through RCI.
VERDICT_IMAGES = 400_000
# What the table may cost; the paper's cases are always paid, 70,000 for a network and RCI on 256 images each.
TABLE_IMAGES = 100_000
WHOLE_PIXELS = 32 * 32
# Of the images of attacks that the user named, what everything else may cost together.
EXTRAS_SHARE = 0.5


class Ceilings(NamedTuple):
    """Image gradients that may be spent; None for no limit.

    The first attack on a verdict and the first random batches that should settle it are always paid, and so
    are the paper's rows of the table on the first sample size.

    Attributes:
        verdict: on each open verdict, beyond that.
        table: on all rows of the table; 0 for no table.
        extras: where attacks are named, on random batches, submissions and checks together.
    """

    verdict: int | None = VERDICT_IMAGES
    table: int | None = TABLE_IMAGES
    extras: int | None = None


@dataclass(frozen=True)
class EvaluationPlan:
    """What may run, and what is known of it before anything has.

    Attributes:
        cases: in the order of tables.
        judged: the settings by which each comparison is settled.
        sizes: sample sizes, increasing; the last one is all.
        start: the sample size that verdicts start at.
        images: what a case costs at a sample size.
        table: the cases that run whatever the others find.
        first_rows: those of them that run on ``start`` examples at least: the paper's, or those named.
        table_first: whether the table runs before submissions and checks: where every case runs on all.
        checks: whether attacks of the checks may run.
        margin: the gain over the base model that counts, a fraction.
        random_batches: whether a batch may be any of the images: their order is random.
        claimed: the accuracy that is claimed, by comparison.
        classes: of the data.
        relus: how many ReLUs answer an image of a checkpoint; 0 where crossover is not run.
    """

    cases: tuple[PlannedCase, ...]
    judged: Mapping[Comparison, tuple[Case, ...]]
    sizes: tuple[int, ...]
    start: int
    images: Callable[[PlannedCase, int], int]
    table: frozenset[PlannedCase] = frozenset()
    first_rows: frozenset[PlannedCase] = frozenset()
    ceilings: Ceilings = field(default_factory=Ceilings)
    table_first: bool = False
    checks: bool = True
    margin: float = 0.03
    random_batches: bool = True
    claimed: Mapping[Comparison, float] = field(default_factory=dict)
    classes: int = 10
    relus: Callable[[str], int] = lambda checkpoint: 0

    @cached_property
    def attacks(self) -> dict[Comparison, list[PlannedCase]]:
        """The attacks planned on each comparison."""
        attacks: dict[Comparison, list[PlannedCase]] = {}
        for case in self.cases:
            if case.attack not in CONTROLS:
                attacks.setdefault(comparison_of(case), []).append(case)
        return attacks

    def tail(self, size: int) -> float:
        """The error of each end of an interval where a verdict is asked for on so many examples."""
        return TAIL / looks(self.sizes, size)

    @property
    def submits_everywhere(self) -> bool:
        """Whether settled comparisons meet submissions, too: where all rows run on all examples."""
        return self.table_first and self.ceilings.extras is None

    def base(self, comparison: Comparison) -> Comparison | None:
        """The comparison of the base model of a defence."""
        subject = comparison.subject
        if subject.spec == STANDARD or not subject.has_base:
            return None
        return next(
            (
                other
                for other in self.judged
                if other.subject.spec == STANDARD
                and (other.subject.checkpoint, other.perturbation)
                == (subject.checkpoint, comparison.perturbation)
            ),
            None,
        )


@dataclass(frozen=True)
class Sized:
    """A case on its first so many examples.

    Attributes:
        images: what that adds to what ran before.
    """

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
        policy: the name of the policy that asks for it.
        reason: why, in a sentence without its end.
        for_table: whether it runs for the table alone.
        reached: comparisons whose verdict rests on more examples from here on.
    """

    policy: str
    reason: str
    cases: tuple[Sized, ...] = ()
    random: tuple[ScheduledRandomBatches, ...] = ()
    for_table: bool = False
    reached: tuple[tuple[Comparison, int], ...] = ()

    def __str__(self) -> str:
        """``pgd-20: expected to take away most, where a verdict is open (cost: 640 gradients)``."""
        attacks = list(dict.fromkeys(part.case.attack for part in self.parts))
        more = f" and {len(attacks) - 3} more" if len(attacks) > 3 else ""
        return (
            f"{', '.join(attacks[:3]) or self.policy}{more}: {self.reason} (cost: {self.images:,} gradients)"
        )

    @property
    def images(self) -> int:
        """Image gradients, about."""
        return sum(part.images for part in self.parts)

    @property
    def parts(self) -> list[Sized | ScheduledRandomBatches]:
        return [*self.cases, *self.random]


class Standing(NamedTuple):
    """What the outcomes say under one setting.

    Attributes:
        above_the_bar: whether figures leave room for praise, so that it depends on checks alone.
        final: whether nothing that may still run can change the verdict.
    """

    verdict: VerdictName = VerdictName.NOT_SETTLED
    above_the_bar: bool = False
    final: bool = False


@dataclass(frozen=True)
class Evidence:
    """What ran, and what its committed outcomes say.

    Attributes:
        steps: so far, in order.
        shares: of right answers that a case leaves, on the draws that attacks are chosen by.
        standings: by setting.
        submissions: what may be submitted of the inputs that were perturbed so far.
        checks: the attacks that checks ask for.
        remarks: sentences on checks that cannot be run.
    """

    steps: tuple[Step, ...] = ()
    shares: Mapping[PlannedCase, float] = field(default_factory=dict)
    standings: Mapping[Case, Standing] = field(default_factory=dict)
    submissions: tuple[PlannedCase, ...] = ()
    checks: tuple[PlannedCase, ...] = ()
    remarks: tuple[str, ...] = ()

    @cached_property
    def sizes(self) -> dict[PlannedCase, int]:
        """The sample size that each case ran at, in the order in which cases began."""
        sizes: dict[PlannedCase, int] = {}
        for step in self.steps:
            wider = dict(step.reached)
            # What is submitted on more examples is made of what is found there.
            stay = (case for case in sizes if not case.submission or comparison_of(case) not in wider)
            sizes = {case: sizes[case] for case in stay}
            for part in step.cases:
                sizes[part.case] = max(sizes.get(part.case, 0), part.size)
        return sizes

    @cached_property
    def random(self) -> dict[PlannedCase, ScheduledRandomBatches]:
        """The random batches of each case."""
        scored = {part.case: part for step in self.steps for part in step.random}
        return {case: part for case, part in scored.items() if case in self.sizes}

    @cached_property
    def for_table(self) -> frozenset[PlannedCase]:
        """Cases that ran for the table alone."""
        judged = {part.case for step in self.steps if not step.for_table for part in step.cases}
        return frozenset(self.sizes.keys() - judged)

    @cached_property
    def reached(self) -> dict[Comparison, int]:
        """The sample size that a verdict rests on, where it is not the first."""
        return {comparison: size for step in self.steps for comparison, size in step.reached}

    @cached_property
    def lately(self) -> tuple[Step, ...]:
        """The steps since a verdict was last asked for on more examples."""
        last = max((i for i, step in enumerate(self.steps) if step.reached), default=0)
        return self.steps[last:]


# Questions that policies ask of both.


def settled(plan: EvaluationPlan, evidence: Evidence) -> list[Comparison]:
    """Comparisons whose verdict nothing can change; a base model's is open while one of its defences is."""
    final = [
        comparison
        for comparison in plan.judged
        if all(standing.final for standing in standings_of(plan, evidence, comparison))
    ]
    needed = {plan.base(comparison) for comparison in plan.judged if comparison not in final}
    return [
        comparison
        for comparison in final
        if comparison not in needed or 0 in shares_of(evidence, plan.attacks.get(comparison, ()))
    ]


def open_comparisons(
    plan: EvaluationPlan, evidence: Evidence, victims: bool | None = None
) -> list[Comparison]:
    """Comparisons that are not settled.

    Args:
        victims: those of single victims alone, or the others; None for both.
    """
    closed = settled(plan, evidence)
    return [
        comparison
        for comparison in plan.judged
        if comparison not in closed and victims in (None, comparison.one_victim)
    ]


def waiting(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> list[PlannedCase]:
    """The attacks planned on a comparison that have not run on its examples."""
    size = size_of(plan, evidence, comparison)
    return [case for case in plan.attacks.get(comparison, ()) if evidence.sizes.get(case, 0) < size]


def verdict_fits(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, cost: int) -> bool:
    """Whether a verdict may cost so much more."""
    spent = sum(
        part.images
        for step in evidence.steps
        if not step.for_table
        for part in step.parts
        if part.case.attack not in CONTROLS and comparison_of(part.case) == comparison
    )
    return plan.ceilings.verdict is None or spent + cost <= plan.ceilings.verdict


def extras_fit(plan: EvaluationPlan, evidence: Evidence, cost: int) -> bool:
    """Whether what no user named may cost so much more, where attacks are named."""
    planned = set(plan.cases)
    spent = sum(
        part.images
        for step in evidence.steps
        for part in step.parts
        if isinstance(part, ScheduledRandomBatches) or part.case not in planned
    )
    return plan.ceilings.extras is None or spent + cost <= plan.ceilings.extras


def at_size(plan: EvaluationPlan, evidence: Evidence, cases: Iterable[PlannedCase], size: int) -> list[Sized]:
    """Those of the cases that have not come so far, and what that costs."""
    parts = []
    for case in cases:
        before = evidence.sizes.get(case, 0)
        if before < size:
            spent = plan.images(case, before) if before else 0
            parts.append(Sized(case, size, plan.images(case, size) - spent))
    return parts


def size_of(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> int:
    """The sample size that a verdict rests on; of a radius that is not judged, what the others rest on."""
    same = (
        size
        for other, size in evidence.reached.items()
        if (other.subject, other.inputs) == (comparison.subject, comparison.inputs)
        and (other == comparison or comparison not in plan.judged)
    )
    return max(same, default=plan.start)


def standings_of(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> list[Standing]:
    """By the settings of the comparison."""
    return [evidence.standings.get(setting, Standing()) for setting in plan.judged[comparison]]


def shares_of(evidence: Evidence, cases: Iterable[PlannedCase]) -> list[float]:
    return [evidence.shares[case] for case in cases if case in evidence.shares]
