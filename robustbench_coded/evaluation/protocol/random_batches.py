"""Random batches that are likely to settle a verdict, and how many: what an attack left is scored in random
batches of a batch-dependent defence (judge/anytime.py) for a forward each. The judge says what they showed.
"""

from typing import NamedTuple

from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.planning.comparisons import (
    Comparison,
    comparison_of,
    depends_on_batch,
    on_whole_batches,
    random_batch_images,
)
from robustbench_coded.evaluation.protocol.state import (
    EvaluationPlan,
    Evidence,
    ScheduledRandomBatches,
    extras_fit,
    size_of,
    standings_of,
    verdict_fits,
)
from robustbench_coded.judge.anytime import values_needed
from robustbench_coded.judge.case_results import CLOSE
from robustbench_coded.judge.intervals import clopper_pearson
from robustbench_coded.judge.outcomes import SHARE_OF_CLEAN
from robustbench_coded.schema.words import CONTROLS, VerdictName

MOST_RANDOM_BATCHES, CLEAN_BATCHES = 600, 100  # a claim's attack gets no fewer than clean inputs
# How far below the bar what is left has to be, for random batches to settle a verdict.
ROOM = 0.8
# What random batches may leave beyond what a few thousand answers showed: six batches more where none was
# right. If they are too few to prove it, twice as many are scored once.
UNSEEN = 0.001
SLACK = 0.01  # shares that attacks are chosen by are of all draws, and those of a verdict of the common ones
FEWEST_TO_HOLD = 20  # where little would do: their images are few, too


class Proof(NamedTuple):
    """Random batches that are likely to bring an accuracy below a bar; ``certain``: the lowest one, whatever
    else would run.
    """

    batches: ScheduledRandomBatches
    certain: bool


def proof_of(
    plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, *, last: bool = False
) -> Proof | None:
    """Random batches at the share that an attack left, if they would bring the limit below the lowest of the
    claim, the margin, the base model's accuracy plus the margin, and what broken means.

    The first of them are always paid.

    Args:
        last: True where no attack is left; before that, what is broken may still turn out to gain nothing,
            which says more.
    """
    bars = bars_of(plan, evidence, comparison, last=last)
    case = _promising(plan, evidence, comparison, bars[-1])
    if case is None:
        return None
    share, tail = evidence.outcomes[case].share, plan.tail(size_of(plan, evidence, comparison))
    size = evidence.sizes[on_whole_batches(case) if comparison.one_victim else case]
    # However many batches: what so few images leave for others.
    least = clopper_pearson(round(share * size), size, tail)[1]
    bar = next((bar for bar in bars if share <= ROOM * bar and least < bar), None)
    if bar is None:
        return None
    before = max(evidence.proofs(case), default=0)
    fewest = CLEAN_BATCHES if comparison in plan.claimed else 0
    needed = max(fewest, values_needed(share + UNSEEN, bar, tail) or MOST_RANDOM_BATCHES)
    most = min(size if comparison.one_victim else MOST_RANDOM_BATCHES, MOST_RANDOM_BATCHES)
    batches = _scheduled(case, min(max(needed, 2 * before), most), size, before)
    fits = not before or verdict_fits(plan, evidence, comparison, batches.images)
    return Proof(batches, bar == bars[0]) if fits and extras_fit(plan, evidence, batches.images) else None


def _scheduled(case: PlannedCase, count: int, size: int, before: int = 0) -> ScheduledRandomBatches:
    return ScheduledRandomBatches(case, count, size, (count - before) * random_batch_images(case))


def bars_of(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, *, last: bool) -> list[float]:
    """The bars that the accuracy is held against, about, the lowest first; the verdict has it exactly."""
    if comparison in plan.claimed:
        return [plan.claimed[comparison]]
    base = plan.base(comparison)
    broken = SHARE_OF_CLEAN * evidence.clean_share(comparison.subject) + 1 / plan.classes
    if base is None:
        return [broken]
    gained = plan.margin + min(evidence.shares(plan.attacks[base]), default=0.0)
    unclear = any(s.verdict == VerdictName.NOT_SETTLED for s in standings_of(plan, evidence, comparison))
    return [plan.margin, gained, *([max(gained, broken)] if last and unclear else [])]


def batches_that_hold(
    plan: EvaluationPlan, evidence: Evidence, comparison: Comparison
) -> list[ScheduledRandomBatches]:
    """Random batches that are likely to show that what is left is above all bars: of every attack that comes
    near the strongest (`judge.case_results.CLOSE`). None where it is not few disjoint batches that hold the
    verdict back.
    """
    by_interval = any(standing.by_interval for standing in standings_of(plan, evidence, comparison))
    shares = _shares(plan, evidence, comparison)
    if not (comparison.subject.batch_dependent and comparison.inputs == "batch" and by_interval and shares):
        return []
    lowest, bar = min(shares.values()), bars_of(plan, evidence, comparison, last=True)[-1]
    near = [case for case, share in shares.items() if share <= lowest + CLOSE + SLACK]
    # Half of the error: the gain lies above the accuracy's own end less the base model's accuracy.
    tail = plan.tail(size_of(plan, evidence, comparison)) / len(near) / 2
    needed = values_needed(1 - lowest, 1 - bar, tail)
    if needed is None:
        return []
    count = min(max(2 * needed, FEWEST_TO_HOLD), MOST_RANDOM_BATCHES)
    # Once at a sample size: where that is not enough, more examples are.
    batches = [_scheduled(case, count, evidence.sizes[case]) for case in near if not evidence.proofs(case)]
    cost = sum(part.images for part in batches)
    fits = verdict_fits(plan, evidence, comparison, cost) and extras_fit(plan, evidence, cost)
    return batches if fits else []


def _shares(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> dict[PlannedCase, float]:
    """The shares that attacks left that may be scored in random batches: on all examples, whose draw is made
    afterwards. None where the order of the images is not random.
    """
    size = size_of(plan, evidence, comparison)
    attacks = (case for case, at in evidence.sizes.items() if at >= size and case.attack not in CONTROLS)
    own = (case for case in attacks if comparison_of(case) == comparison and not case.threat.draw_known)
    return {c: evidence.outcomes[c].share for c in own if plan.random_batches and c in evidence.outcomes}


def _promising(
    plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, bar: float
) -> PlannedCase | None:
    """The attack whose inputs are likely to put a comparison below a bar; None without one.

    Of attacks on one victim those that also ran on whole batches, where every image was perturbed.
    """
    unclear = (VerdictName.NOT_SETTLED, VerdictName.BROKEN)
    standings = standings_of(plan, evidence, comparison)
    if not comparison.subject.batch_dependent or comparison.inputs not in ("batch", "victim"):
        return None
    if all(standing.verdict not in unclear for standing in standings):
        return None
    low = {c: s for c, s in _shares(plan, evidence, comparison).items() if s <= ROOM * bar}
    free = {case: share for case, share in low.items() if not depends_on_batch(case)}
    if comparison.one_victim:  # the victims' inputs are those of whole batches
        whole = {case: evidence.outcomes.get(on_whole_batches(case)) for case in free}
        low = free = {c: s for c, s in free.items() if (of := whole[c]) and of.share <= ROOM * bar}
    case = min(free or low, key=lambda case: low[case], default=None)
    most = 1 if comparison.one_victim else 2  # each victim once; batches again, twice as many
    return None if case is None or len(evidence.proofs(case)) >= most else case
