"""Which random batches are likely to settle a verdict, and how many: what an attack left is scored in random
batches of a batch-dependent defence (statistics/anytime.py) for a forward each.
"""

from robustbench_coded.evaluation.planning.cases import AttackCase
from robustbench_coded.evaluation.planning.comparisons import (
    Comparison,
    comparison_of,
    depends_on_batch,
    on_whole_batches,
    random_batch_images,
)
from robustbench_coded.schema.words import CLEAN, VerdictWord
from robustbench_coded.session.schedule import (
    EvaluationPlan,
    Evidence,
    RandomBatches,
    extras_fit,
    shares_of,
    size_of,
    standings_of,
    verdict_fits,
)
from robustbench_coded.statistics.anytime import values_needed

MOST_RANDOM_BATCHES = 600
# How far below the bar what is left has to be, for random batches to settle a verdict.
ROOM = 0.8


def affordable_batches(
    plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, *, broken: bool = False
) -> RandomBatches | None:
    """Random batches that are likely to settle a comparison; the first of them are always paid.

    Args:
        broken: only where so little is left that it settles the verdict by itself.
    """
    case = promising_case(plan, evidence, comparison)
    if case is None or (broken and evidence.shares[case] > ROOM * bars_of(plan, evidence, comparison)[0]):
        return None
    batches = wanted_batches(plan, evidence, comparison, case)
    first = not any(part.case == case for step in evidence.lately for part in step.random)
    fits = first or verdict_fits(plan, evidence, comparison, batches.images)
    return batches if fits and extras_fit(plan, evidence, batches.images) else None


def wanted_batches(
    plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, case: AttackCase
) -> RandomBatches:
    """As many as show that what a case leaves is below the bar; twice as many where they did not."""
    share, bars = evidence.shares[case], bars_of(plan, evidence, comparison)
    bar = next((bar for bar in bars if share <= ROOM * bar), bars[-1])
    needed = values_needed(share, bar, plan.tail) or MOST_RANDOM_BATCHES
    count = min(max(needed, 2 * batches_scored(evidence, case)), MOST_RANDOM_BATCHES)
    size = evidence.sizes[on_whole_batches(case) if comparison.one_victim else case]
    return random_batches(evidence, case, min(count, size) if comparison.one_victim else count, size)


def promising_case(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> AttackCase | None:
    """The attack whose inputs are likely to settle a verdict in (more) random batches; None without one.

    Of attacks on one victim those that also ran on whole batches, where every image was perturbed.
    """
    if not comparison.subject.batch_dependent or comparison.inputs not in ("batch", "victim"):
        return None
    # What is broken may also gain nothing, which says more.
    unclear = (VerdictWord.NOT_SETTLED, VerdictWord.BROKEN)
    if all(standing.verdict not in unclear for standing in standings_of(plan, evidence, comparison)):
        return None
    bar, size = ROOM * bars_of(plan, evidence, comparison)[-1], size_of(plan, evidence, comparison)
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
    return None if case is None or batches_scored(evidence, case) >= most else case


def bars_of(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> tuple[float, float]:
    """About what the accuracy is held against whatever else is found, and by what is known now; the verdict
    has them exactly.
    """
    base = plan.base(comparison)
    if comparison in plan.claimed:
        return plan.claimed[comparison], plan.claimed[comparison]
    if base is None:
        floor = 0.05 * clean_share(evidence, comparison) + 1 / plan.classes
        return floor, floor
    return plan.margin, plan.margin + min(shares_of(evidence, plan.attacks.get(base, ())), default=0.0)


def random_batches(evidence: Evidence, case: AttackCase, count: int, size: int) -> RandomBatches:
    new = count - batches_scored(evidence, case)
    return RandomBatches(case, count, size, new * random_batch_images(case))


def batches_scored(evidence: Evidence, case: AttackCase) -> int:
    """The random batches of a case at the sample size that its verdict rests on now."""
    counts = (part.batches for step in evidence.lately for part in step.random if part.case == case)
    return max(counts, default=0)


def clean_share(evidence: Evidence, comparison: Comparison) -> float:
    clean = (case for case in evidence.sizes if case.attack == CLEAN and case.subject == comparison.subject)
    return max(shares_of(evidence, clean), default=1.0)
