"""Random batches that would settle a verdict, and how many: what an attack left is scored in random batches
of a batch-dependent defence (judge/anytime.py) for a forward each. The bars are the judge's, and so is the
formula; the judge says what they showed.
"""

from collections import Counter
from typing import NamedTuple

from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.planning.comparisons import (
    Comparison,
    comparison_of,
    depends_on_batch,
    on_whole_batches,
)
from robustbench_coded.evaluation.protocol.plan import (
    EvaluationPlan,
    Need,
    Results,
    extras_fit,
    priced,
    verdict_fits,
)
from robustbench_coded.judge.anytime import values_needed
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.checks import accuracy_of
from robustbench_coded.judge.intervals import clopper_pearson
from robustbench_coded.judge.verdict import CONTAINS_THRESHOLD
from robustbench_coded.schema.words import CONTROLS, Rung, VerdictName

MOST_RANDOM_BATCHES, CLEAN_BATCHES = 600, 100  # a claim's attack gets no fewer than clean inputs
FEWEST_TO_HOLD = 20  # where little would do: their images are few, too


class Proof(NamedTuple):
    """Random batches that would bring an accuracy below a bar; ``certain``: the lowest one, below which
    nothing else that would run changes the verdict.
    """

    need: Need
    certain: bool


def proof_of(plan: EvaluationPlan, results: Results, comparison: Comparison) -> Proof | None:
    """Random batches of the strongest attack, if as many would show that what it leaves is below a bar: the
    claim, the chance threshold, the minimum gain, or the base model's accuracy plus that.

    The first of them are always paid; where they show too little, twice as many are scored once.
    """
    verdicts = results.of(plan, comparison)
    bars = next((v.bars for v in verdicts if v is not None and v.name == VerdictName.NOT_SETTLED), ())
    case = _strongest(plan, results, comparison)
    if not bars or case is None or not plan.random_batches:
        return None
    row = results.rows[on_whole_batches(case) if comparison.one_victim else case]
    bar = next((bar for bar in bars if bar < 1 and _shows(row, bar, plan.tail)), None)
    before = _before(plan, results, case)
    most = 1 if comparison.one_victim else 2  # each victim once; batches again, twice as many
    if bar is None or len(before) >= most:
        return None
    claimed = any(v is not None and v.claim is not None for v in verdicts)
    needed_ = max(CLEAN_BATCHES if claimed else 0, _count(row, bar, plan.tail))
    images = results.sizes[case]
    largest = min(images if comparison.one_victim else MOST_RANDOM_BATCHES, MOST_RANDOM_BATCHES)
    count = min(max(needed_, 2 * max(before, default=0)), largest)
    need = Need(Rung.CONFIRM, "random batches to confirm the break", (case,), images, count)
    need = priced(plan, results, need)
    fits = not before or verdict_fits(plan, results, comparison, need.gradients)
    return Proof(need, bar == bars[0]) if fits and extras_fit(plan, results, need.gradients) else None


def _shows(row: CaseResult, bar: float, tail: float) -> bool:
    """True if so many images can show that what is left of them is below a bar, in any number of batches."""
    assert row.cell is not None
    left, images = accuracy_of(row), len(row.cell.correct)
    return left < bar and clopper_pearson(left * images, images, tail)[1] < bar


def _count(row: CaseResult, bar: float, tail: float) -> int:
    """How many batches would show it, were one answer more right than so far."""
    assert row.cell is not None
    answers = row.cell.correct
    share = (int(answers.sum()) + 1) / (answers.size + 1)
    return values_needed(share, bar, tail) or MOST_RANDOM_BATCHES


def _before(plan: EvaluationPlan, results: Results, case: PlannedCase) -> list[int]:
    """The numbers of random batches that were scored of a case on these images, step by step."""
    images = results.sizes[case]
    return [step.batches for step in results.at(images) if step.batches and case in step.cases]


def batches_that_hold(plan: EvaluationPlan, results: Results, comparison: Comparison) -> Need | None:
    """Random batches that would show that what is left is above all bars, of every attack that comes near the
    strongest. None where it is not few disjoint batches that hold the verdict back.
    """
    held = [v for v in results.of(plan, comparison) if v is not None and v.rule == CONTAINS_THRESHOLD]
    whole = comparison.subject.batch_dependent and comparison.inputs == "batch" and plan.random_batches
    near = [case for case in _scorable(plan, results, comparison) if case in results.near(plan, comparison)]
    if not (held and whole and near):
        return None
    lowest, bar = min(results.shares(near)), held[0].bars[-1]
    # Half of the error: the gain lies above the accuracy's own end less the base model's accuracy.
    needed_ = values_needed(1 - lowest, 1 - bar, plan.tail / len(near) / 2)
    left = tuple(case for case in near if not _before(plan, results, case))
    if needed_ is None or not left:
        return None
    count = min(max(2 * needed_, FEWEST_TO_HOLD), MOST_RANDOM_BATCHES)
    reason = "random batches to show that the accuracy is above the bar"
    need = priced(plan, results, Need(Rung.MORE_EXAMPLES, reason, left, plan.size, count))
    fits = verdict_fits(plan, results, comparison, need.gradients)
    return need if fits and extras_fit(plan, results, need.gradients) else None


def batches_of_sizes(plan: EvaluationPlan, results: Results) -> Need | None:
    """Random batches of the attacks that decide, where a defence has several batch sizes: on them rest the
    intervals of its accuracies and of their differences.
    """
    sizes = Counter(map(_at_any_size, plan.judged))
    swept = [c for c in plan.about if c.subject.batch_dependent and sizes[_at_any_size(c)] > 1]
    scorable = (case for c in swept if c.inputs == "batch" for case in _scorable(plan, results, c))
    few = {case for case, (batches, _) in results.batches.items() if batches < CLEAN_BATCHES}
    left = tuple(c for c in scorable if c in few or c.case in results.unscored.get(c.case.setting, ()))
    reason = "random batches of the strongest attacks at each batch size"
    return Need(Rung.MORE_EXAMPLES, reason, left, plan.size, CLEAN_BATCHES) if left else None


def _at_any_size(comparison: Comparison) -> tuple[object, ...]:
    return comparison.subject.checkpoint, comparison.subject.spec, comparison.perturbation, comparison.inputs


def _scorable(plan: EvaluationPlan, results: Results, comparison: Comparison) -> list[PlannedCase]:
    """The attacks that may be scored in random batches: on all examples, whose draw is made afterwards."""
    return [
        case
        for case, size in results.sizes.items()
        if size >= plan.size
        and case.attack not in CONTROLS
        and comparison_of(case) == comparison
        and not case.threat.draw_known
        and case in results.rows
    ]


def _strongest(plan: EvaluationPlan, results: Results, comparison: Comparison) -> PlannedCase | None:
    """The attack that leaves least; of those whose inputs depend on no batch, where one shows that less than
    the highest bar is left. Of attacks on one victim those that also ran on whole batches, where every image
    was perturbed.
    """
    if not comparison.subject.batch_dependent or comparison.inputs not in ("batch", "victim"):
        return None
    cases = _scorable(plan, results, comparison)
    free = [case for case in cases if not depends_on_batch(case)]
    if comparison.one_victim:  # the victims' inputs are those of whole batches
        cases = free = [case for case in free if on_whole_batches(case) in results.rows]
    bar = max((v.bars[-1] for v in results.of(plan, comparison) if v is not None), default=0.0)
    low = [case for case in free if _shows(results.rows[case], bar, plan.tail)]
    return min(low or cases, key=lambda case: accuracy_of(results.rows[case]), default=None)
