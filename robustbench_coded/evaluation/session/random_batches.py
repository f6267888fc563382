"""Which random batches are likely to settle a verdict, and how many: what an attack left is scored in random
batches of a batch-dependent defence (judge/anytime.py) for a forward each.
"""

from typing import Literal, NamedTuple

from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.planning.comparisons import (
    Comparison,
    comparison_of,
    depends_on_batch,
    on_whole_batches,
    random_batch_images,
)
from robustbench_coded.evaluation.session.schedule import (
    EvaluationPlan,
    Evidence,
    ScheduledRandomBatches,
    extras_fit,
    shares_of,
    size_of,
    standings_of,
    verdict_fits,
)
from robustbench_coded.judge.anytime import values_needed
from robustbench_coded.judge.case_results import CLOSE
from robustbench_coded.judge.intervals import clopper_pearson
from robustbench_coded.schema.words import CLEAN, CONTROLS, VerdictName

MOST_RANDOM_BATCHES = 600
FEWEST_TO_HOLD = 20  # where little would do: their images are few, too
# How far below the bar what is left has to be, for random batches to settle a verdict.
ROOM = 0.8
# What random batches may leave beyond what a few thousand answers showed: six batches more where none was
# right. If they are too few to prove it, twice as many are scored.
UNSEEN = 0.001
SLACK = 0.01  # shares that attacks are chosen by are of all draws, and those of a verdict of the common ones


class Bars(NamedTuple):
    """What an accuracy is held against, about; the verdict has it exactly.

    Attributes:
        certain: whatever else is found.
        known: as far as the base model has been attacked.
        broken: what is not above it is broken, whatever its base model keeps.
    """

    certain: float
    known: float
    broken: float


Bar = Literal["certain", "known", "broken"]


def likely_batches(
    plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, bar: Bar
) -> ScheduledRandomBatches | None:
    """Random batches that are likely to put a comparison below a bar, or one before it; None without any.

    The first of them are always paid.
    """
    if not plan.random_batches:
        return None
    bars = _bars(plan, evidence, comparison)
    case = _promising(plan, evidence, comparison, getattr(bars, bar), below_broken=bar == "broken")
    if case is None:
        return None
    share, tail = evidence.shares[case], plan.tail(size_of(plan, evidence, comparison))
    size = evidence.sizes[on_whole_batches(case) if comparison.one_victim else case]
    # However many batches: what so few images leave for others.
    least = clopper_pearson(round(share * size), size, tail)[1]
    asked = bars[: bars._fields.index(bar) + 1]
    provable = [known for known in asked if share <= ROOM * known and least < known]
    if not provable:
        return None
    needed = values_needed(share + UNSEEN, provable[0], tail) or MOST_RANDOM_BATCHES
    scored = _scored(evidence, case)
    count = min(max(needed, 2 * scored), MOST_RANDOM_BATCHES)
    if comparison.one_victim:
        count = min(count, size)
    batches = ScheduledRandomBatches(case, count, size, (count - scored) * random_batch_images(case))
    fits = not scored or verdict_fits(plan, evidence, comparison, batches.images)
    return batches if fits and extras_fit(plan, evidence, batches.images) else None


def batches_that_hold(
    plan: EvaluationPlan, evidence: Evidence, comparison: Comparison
) -> list[ScheduledRandomBatches]:
    """Random batches that are likely to show that what is left is above all bars: of every attack that comes
    near the strongest (`judge.case_results.CLOSE`). None where it is not few disjoint batches that hold the
    verdict back.
    """
    if not comparison.subject.batch_dependent or comparison.inputs != "batch":
        return []
    standings = standings_of(plan, evidence, comparison)
    if not any(one.verdict == VerdictName.NOT_SETTLED and not one.above_the_bar for one in standings):
        return []
    size = size_of(plan, evidence, comparison)
    shares = {
        case: evidence.shares[case]
        for case, ran in evidence.sizes.items()
        if case.attack not in CONTROLS
        and comparison_of(case) == comparison
        and ran >= size
        and not case.threat.draw_known
        and case in evidence.shares
    }
    if not shares:
        return []
    lowest, bar = min(shares.values()), _bars(plan, evidence, comparison).broken
    near = [case for case, share in shares.items() if share <= lowest + CLOSE + SLACK]
    # As a gain, which may lie between -1 and 1.
    needed = values_needed((1 - lowest) / 2, (1 - bar) / 2, plan.tail(size) / len(near))
    if needed is None:
        return []
    count = min(max(2 * needed, FEWEST_TO_HOLD), MOST_RANDOM_BATCHES)
    batches = [
        ScheduledRandomBatches(case, count, evidence.sizes[case], count * random_batch_images(case))
        for case in near
        if not _scored(evidence, case)  # once at a sample size: where that is not enough, more examples are
    ]
    cost = sum(part.images for part in batches)
    fits = verdict_fits(plan, evidence, comparison, cost) and extras_fit(plan, evidence, cost)
    return batches if fits else []


def _promising(
    plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, bar: float, *, below_broken: bool
) -> PlannedCase | None:
    """The attack whose inputs are likely to put a comparison below a bar; None without one.

    Of attacks on one victim those that also ran on whole batches, where every image was perturbed.
    """
    if not comparison.subject.batch_dependent or comparison.inputs not in ("batch", "victim"):
        return None
    # What is broken may also gain nothing, which says more.
    unclear = [VerdictName.NOT_SETTLED] if below_broken else [VerdictName.NOT_SETTLED, VerdictName.BROKEN]
    if all(standing.verdict not in unclear for standing in standings_of(plan, evidence, comparison)):
        return None
    bar, size = ROOM * bar, size_of(plan, evidence, comparison)
    submitted = (case for case in evidence.sizes if case.submission and comparison_of(case) == comparison)
    shares = {}
    for case in (*plan.attacks.get(comparison, ()), *submitted):
        everywhere = not comparison.one_victim or on_whole_batches(case) in evidence.sizes
        if case.threat.draw_known or not everywhere or evidence.sizes.get(case, 0) < size:
            continue
        share = evidence.shares.get(case)
        if share is not None and share <= bar and not (comparison.one_victim and depends_on_batch(case)):
            shares[case] = share
    free = {case: share for case, share in shares.items() if not depends_on_batch(case)}
    case = min(free or shares, key=lambda case: shares[case], default=None)
    most = 1 if comparison.one_victim else MOST_RANDOM_BATCHES  # each victim once
    return None if case is None or _scored(evidence, case) >= most else case


def _bars(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> Bars:
    if comparison in plan.claimed:
        return Bars(*[plan.claimed[comparison]] * 3)
    base = plan.base(comparison)
    floor = 0.05 * clean_share(evidence, comparison) + 1 / plan.classes
    if base is None:
        return Bars(floor, floor, floor)
    known = plan.margin + min(shares_of(evidence, plan.attacks.get(base, ())), default=0.0)
    return Bars(plan.margin, known, max(known, floor))


def _scored(evidence: Evidence, case: PlannedCase) -> int:
    """The random batches of a case at the sample size that its verdict rests on now."""
    counts = (part.batches for step in evidence.lately for part in step.random if part.case == case)
    return max(counts, default=0)


def clean_share(evidence: Evidence, comparison: Comparison) -> float:
    clean = (case for case in evidence.sizes if case.attack == CLEAN and case.subject == comparison.subject)
    return max(shares_of(evidence, clean), default=1.0)
