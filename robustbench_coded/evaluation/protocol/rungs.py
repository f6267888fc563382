"""The protocol: a rung for everything that a verdict may need, in a fixed order; the first that has something
left to run says what runs next.

``next_step(plan, results)`` is a function of frozen arguments: no clock, no folder, no worker. The same
results give the same step, on any machine, so an evaluation that was interrupted goes on as if it had not
been. Which rungs a verdict needs, its rule says (judge/rules.py). docs/protocol.md has both tables.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from attacks import presets
from robustbench_coded.evaluation.planning.cases import PlannedCase, ProbedSubject
from robustbench_coded.evaluation.planning.comparisons import (
    SLOW,
    Comparison,
    comparison_of,
    random_batch_images,
)
from robustbench_coded.evaluation.protocol.follow_up import follow_up, unmatched
from robustbench_coded.evaluation.protocol.plan import (
    Ceilings,
    EvaluationPlan,
    Need,
    Results,
    affordable,
    extras_fit,
    priced,
    verdict_fits,
    waiting,
)
from robustbench_coded.evaluation.protocol.random_batches import (
    CLEAN_BATCHES,
    batches_of_sizes,
    batches_that_hold,
    proof_of,
)
from robustbench_coded.evaluation.protocol.resubmission import as_victims, resubmissions
from robustbench_coded.judge.verdict import CONTAINS_THRESHOLD
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Subject
from robustbench_coded.schema.manifest import Stage
from robustbench_coded.schema.words import BESIDE, CLEAN, ENSEMBLE, STANDARD, Rung, VerdictName

VERSION = "2"
MANY_BATCHES = 40  # of clean inputs, which say enough of the clean accuracy
CHECK_ROUNDS = 6  # how often checks may ask for attacks at one sample size
# Crossover is for small networks on few images: at most so many ReLUs times images, 100,000 of which take
# about a minute (benchmarks/peers/hard_images.md).
MOST_RELUS = 200_000
BY_CHECKS = "attacks that open checks ask for"
Asks = Callable[[EvaluationPlan, Results, Sequence[Comparison]], Need | None]


@dataclass(frozen=True)
class RungRow:
    """A row of the protocol's table.

    Attributes:
        name: as run.json and reports have it.
        asks: (plan, results, open comparisons, all of them whole batches or all victims) -> what of it runs
            next; None where nothing is left.
        says: what runs, for users.
        shown, hidden: its attacks in their order, where torch has the defence's gradient and where an
            operator hides it.
    """

    name: Rung
    asks: Asks
    says: str
    shown: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


def next_step(plan: EvaluationPlan, results: Results) -> Need | None:
    """The step of the first rung that has anything left, whole batches before single victims; None when
    nothing is left to do on this sample size.
    """
    rungs = [rung for rung in RUNGS if not plan.rungs or rung.name in plan.rungs]
    for victims in (False, True):
        open_ = results.open(plan, victims)
        for rung in rungs:
            if need := rung.asks(plan, results, open_):
                return priced(plan, results, need)
    return None


def wider(plan: EvaluationPlan, results: Results) -> list[Comparison]:
    """The comparisons that twice the images may settle, with their base models; none where all ran or it
    would cost too much. A base model has met a defence's victims before.
    """
    if plan.size == plan.sizes[-1] or (plan.rungs and Rung.MORE_EXAMPLES not in plan.rungs):
        return []
    chosen: dict[Comparison, None] = {}
    for comparison in (*results.open(plan, False), *results.open(plan, True)):
        together = [comparison] if comparison.one_victim else plan.with_base(comparison)
        need = _wider(plan, results, together) if wants_images(plan, results, comparison) else None
        if need and verdict_fits(plan, results, comparison, priced(plan, results, need).gradients):
            chosen |= dict.fromkeys(together)
    return list(chosen)


def needed(
    plan: EvaluationPlan, results: Results, comparison: Comparison, *, checks: bool = True
) -> Need | None:
    """The step that would come next for a verdict that is open in the end, were there no ceiling.

    Args:
        checks: False for what checks ask for beyond what `--until settled` runs.
    """
    free = replace(plan, ceilings=Ceilings(checks=checks), checks=True, rows=frozenset(), about=(comparison,))
    free = free.at(results.size_of(plan, comparison), [comparison])
    if stage := _stage(free, results, comparison):
        return priced(free, results, stage)
    free = replace(free, about=tuple(free.with_base(comparison)))
    need = next_step(free, results)
    if need is None and comparison in wider(free, results):
        need = _wider(free, results, free.with_base(comparison))
    about_clean = need is not None and all(case.attack == CLEAN for case in need.cases)
    return None if need is None or about_clean else priced(free, results, need)


def _stage(plan: EvaluationPlan, results: Results, comparison: Comparison) -> Need | None:
    """The attacks of the protocol that were not named, where a verdict could be positive with them."""
    above = any(verdict is not None and verdict.above_the_bar for verdict in results.of(plan, comparison))
    left = [case for case in plan.protocol if case not in results.sizes and comparison_of(case) == comparison]
    if not (above and left):
        return None
    rung = Rung(_stage_name(left[0]))
    return Need(rung, "a stage of the protocol", tuple(left), plan.size)


def stages_of(protocol: Sequence[PlannedCase], wraps: Callable[[ProbedSubject], bool]) -> tuple[Stage, ...]:
    """What a positive verdict needs in each setting: all attacks of each stage; and the accuracy of its
    checkpoint.

    Args:
        protocol: the attacks of the default. wraps: True for defences around a checkpoint.
    """
    attacks: dict[tuple[Case, str], list[str]] = {}
    wrapped: dict[Case, Case] = {}
    for case in protocol:
        setting, subject = case.case.setting, case.subject
        attacks.setdefault((setting, _stage_name(case)), []).append(case.attack)
        if wraps(subject):
            alone = Subject(subject.checkpoint, STANDARD, None, None)
            wrapped[setting] = Case(alone, WHOLE_BATCH, case.perturbation, "")
    beside = (Stage(case=s, name=BESIDE, attacks=(ENSEMBLE,), within=own) for s, own in wrapped.items())
    return (*(Stage(case=s, name=name, attacks=tuple(a)) for (s, name), a in attacks.items()), *beside)


def _stage_name(case: PlannedCase) -> str:
    norm = case.perturbation.norm
    if case.attack in presets.in_norm(presets.NAMED, norm):
        return Rung.NAMED_ROWS
    deferred = presets.in_norm((*presets.DEFERRED, *presets.ON_VICTIMS[1:]), norm)
    return Rung.BEFORE_POSITIVE if case.attack in deferred else Rung.ADAPTIVE


# The rungs. Each is asked if those before it have nothing left.


def _widen(plan: EvaluationPlan, results: Results, open_: Sequence[Comparison]) -> Need | None:
    """What verdicts rest on that need more images, on these."""
    before = {c: n for c, n in results.sizes.items() if n < plan.size and not c.submission}
    ran = tuple(case for case in before if any(comparison.holds(case) for comparison in plan.about))
    reason = "more images where an interval contains the threshold"
    return Need(Rung.MORE_EXAMPLES, reason, ran, plan.size, wider=True) if ran else None


def _answer_clean_inputs(plan: EvaluationPlan, results: Results, open_: Sequence[Comparison]) -> Need | None:
    if need := _widen(plan, results, open_):
        return need
    clean = [case for case in plan.cases if case.attack == CLEAN]
    return _rows(plan, results, Rung.CLEAN, "accuracy on unperturbed images", clean)


def _attack_quickly(plan: EvaluationPlan, results: Results, open_: Sequence[Comparison]) -> Need | None:
    """One attack on each open verdict, whatever it costs."""
    chosen = []
    for comparison in open_:
        attacks = plan.attacks[comparison]
        if attacks and not any(case in results.sizes for case in attacks):
            chosen.append(quickest(plan, attacks))
    reason = "one cheap attack on each open verdict"
    return Need(Rung.QUICK, reason, tuple(chosen), plan.size) if chosen else None


def _confirm(
    plan: EvaluationPlan, results: Results, open_: Sequence[Comparison], *, last: bool = False
) -> Need | None:
    """Until no attack is left, for what settles a verdict whatever else would run."""
    for comparison in open_:
        if results.needs(plan, comparison, Rung.CONFIRM):
            proof = proof_of(plan, results, comparison)
            if proof and (last or proof.certain):
                return proof.need
    return None


def _run_rows(plan: EvaluationPlan, results: Results, open_: Sequence[Comparison]) -> Need | None:
    rows = [case for case in plan.cases if case in plan.rows]
    return _rows(plan, results, Rung.NAMED_ROWS, "standard attacks of every table", rows)


def _adapt(plan: EvaluationPlan, results: Results, open_: Sequence[Comparison]) -> Need | None:
    """One more attack on each open verdict: the first in order that fits.

    None where random batches are about to settle it, nor where only its base model may still change it.
    """
    chosen = []
    for comparison in open_:
        if results.by_base(plan, comparison) or proof_of(plan, results, comparison):
            continue
        planned = _in_order(comparison, waiting(plan, results, comparison))
        for case in planned or unmatched(plan, results, comparison):
            need = priced(plan, results, Need(Rung.ADAPTIVE, "", (case,), plan.size))
            named = case in plan.cases or extras_fit(plan, results, need.gradients)
            if named and verdict_fits(plan, results, comparison, need.gradients):
                chosen.append(case)
                break
    if chosen:
        return Need(Rung.ADAPTIVE, "the next attack on each open verdict", tuple(chosen), plan.size)
    return _confirm(plan, results, open_, last=True)


def _self_test(plan: EvaluationPlan, results: Results, open_: Sequence[Comparison]) -> Need | None:
    """Once: a positive verdict needs self-tests, and checks read them."""
    if results.tested:
        return None
    return Need(Rung.SELF_TESTS, "gradients and answers of each defence", images=plan.size)


def _submit(plan: EvaluationPlan, results: Results, open_: Sequence[Comparison]) -> Need | None:
    """Repeated after every attack since, which may have other results."""
    steps = results.at(plan.size)
    if next((step.rung for step in reversed(steps) if step.cases), "") == Rung.CROSS_EXAMINATION:
        return None
    if any(comparison.one_victim for comparison in open_):
        offered = as_victims(results, open_)
    else:
        everywhere = plan.everything and plan.ceilings.extras is None
        at = plan.about if everywhere else open_
        offered = resubmissions(plan, results, [c for c in at if c.inputs == "batch"])
    reason = "perturbed inputs found so far, submitted elsewhere"
    return affordable(plan, results, Rung.CROSS_EXAMINATION, reason, offered)


def _doubt(plan: EvaluationPlan, results: Results, open_: Sequence[Comparison]) -> Need | None:
    """Special attacks; then the attacks of open checks; then crossover."""
    asking = [c for c in open_ if _would_be_positive(plan, results, c)]
    concerned = [c for c in open_ if any(c in plan.with_base(other) for other in asking)]
    deferred = [case for c in concerned for case in waiting(plan, results, c, deferred=True)]
    reason = "costly attacks before a positive verdict"
    if need := affordable(plan, results, Rung.BEFORE_POSITIVE, reason, deferred):
        return need
    rounds = [step.reason for step in results.at(plan.size)].count(BY_CHECKS)
    if plan.checks and (rounds < CHECK_ROUNDS or not plan.ceilings.checks):
        cases = follow_up(plan, results, concerned)[0]
        if need := affordable(plan, results, Rung.BEFORE_POSITIVE, BY_CHECKS, cases):
            return need
    crossed = [case for c in concerned for case in _crossover(plan, results, c)]
    reason = "results close to the boundary, recombined"
    return affordable(plan, results, Rung.BEFORE_POSITIVE, reason, crossed)


def _hold(plan: EvaluationPlan, results: Results, open_: Sequence[Comparison]) -> Need | None:
    """Random batches of every attack near the strongest, where few disjoint batches hold a positive verdict
    back; in the end those of clean inputs, of which few batches say little, and those that compare sizes.
    """
    for comparison in open_:
        if need := batches_that_hold(plan, results, comparison):
            return need
    at = [case for case, size in results.sizes.items() if size == plan.size and case not in results.batches]
    few = [case for case in at if few_clean_batches(plan, case, plan.size)]
    if few and extras_fit(plan, results, CLEAN_BATCHES * sum(map(random_batch_images, few))):
        reason = "random batches of unperturbed images"
        return Need(Rung.MORE_EXAMPLES, reason, tuple(few), plan.size, CLEAN_BATCHES)
    return batches_of_sizes(plan, results) if plan.random_batches else None


# Each: name and step; what runs; its attacks.
RUNGS: tuple[RungRow, ...] = (
    RungRow(Rung.CLEAN, _answer_clean_inputs, "Clean accuracy.", (CLEAN,), (CLEAN,)),
    RungRow(Rung.QUICK, _attack_quickly, "The first that applies.", presets.QUICK, presets.QUICK_HIDDEN),
    RungRow(Rung.CONFIRM, _confirm, "Random batches of the same perturbed inputs."),
    RungRow(Rung.NAMED_ROWS, _run_rows, "Rows of every table.", presets.NAMED, presets.NAMED),
    RungRow(Rung.ADAPTIVE, _adapt, "In order.",
            presets.ADAPTIVE, (*presets.ADAPTIVE_HIDDEN, *presets.ADAPTIVE)),
    RungRow(Rung.SELF_TESTS, _self_test, "Short tests of gradients and answers."),
    RungRow(Rung.CROSS_EXAMINATION, _submit, "Perturbed inputs made elsewhere, or rounded."),
    RungRow(Rung.BEFORE_POSITIVE, _doubt, "These, then those that open checks request.",
            presets.DEFERRED, presets.DEFERRED),
    RungRow(Rung.MORE_EXAMPLES, _hold, "Random batches of the strongest attacks; twice the images."),
)  # fmt: skip
# Of csrobust screen, whose adaptive attacks are one of each kind.
SCREEN = (Rung.CLEAN, Rung.QUICK, Rung.CONFIRM, Rung.ADAPTIVE, Rung.SELF_TESTS, Rung.MORE_EXAMPLES)


# What they need.


def _rows(
    plan: EvaluationPlan, results: Results, rung: Rung, reason: str, cases: Sequence[PlannedCase]
) -> Need | None:
    left = tuple(c for c in cases if plan.start_of(c) == plan.size and results.sizes.get(c, 0) < plan.size)
    return Need(rung, reason, left, plan.size) if left else None


def few_clean_batches(plan: EvaluationPlan, case: PlannedCase, size: int) -> bool:
    """True for clean inputs in so few batches that random ones say more."""
    whole = case.subject.batch_dependent and not case.threat.one_victim and plan.random_batches
    return case.attack == CLEAN and whole and size < MANY_BATCHES * case.subject.k


def quickest(plan: EvaluationPlan, attacks: Sequence[PlannedCase]) -> PlannedCase:
    """The attack that runs first."""
    return min(attacks, key=lambda case: _quickness(plan, case))


def _quickness(plan: EvaluationPlan, case: PlannedCase) -> tuple[bool | int, ...]:
    """The least comes first: the row's attacks in their order, then the cheapest of several steps."""
    attack, subject = case.made_by, case.subject
    assert attack is not None
    rung = presets.QUICK_HIDDEN if subject.hides_gradient else presets.QUICK
    hidden = subject.hides_gradient and subject.copies < SLOW  # what is slow gets no weak attack first
    through_base = attack.knows == "transfer" and (subject.batch_dependent or hidden)
    place = rung.index(case.attack) if case.attack in rung[not through_base :] else len(rung)
    one_step = attack.algorithm == presets.ONE_STEP
    smoothed = attack.relaxed and subject.hides_gradient
    return not through_base, not smoothed, place, one_step, plan.images(case, plan.start)


def _in_order(comparison: Comparison, cases: Sequence[PlannedCase]) -> list[PlannedCase]:
    """Attacks in the order of the rungs, those of no rung last, in that of the plan."""
    hidden = comparison.subject.hides_gradient
    order = [name for rung in RUNGS for name in (rung.hidden if hidden else rung.shown)]
    if hidden:  # smoothed attacks come before rows that follow what the defence shows
        order = [*presets.QUICK_HIDDEN, *presets.ADAPTIVE_HIDDEN, *order]
    return sorted(cases, key=lambda c: order.index(c.attack) if c.attack in order else len(order))


def wants_images(plan: EvaluationPlan, results: Results, comparison: Comparison) -> bool:
    """True if more images are what a verdict needs: every planned attack ran, and its draw is unknown."""
    verdicts = zip(plan.judged[comparison], results.of(plan, comparison), strict=True)
    asks = any(
        v is not None and Rung.MORE_EXAMPLES in v.needs.rungs and not setting.threat.draw_known
        for setting, v in verdicts
    )
    return asks and not waiting(plan, results, comparison)


def _would_be_positive(plan: EvaluationPlan, results: Results, comparison: Comparison) -> bool:
    """True if a verdict asks for this rung, and more images do not come first."""
    if not results.needs(plan, comparison, Rung.BEFORE_POSITIVE):
        return False
    return comparison not in wider(plan, results)


def _wider(plan: EvaluationPlan, results: Results, together: Sequence[Comparison]) -> Need | None:
    """These comparisons on twice the images."""
    size = plan.sizes[plan.sizes.index(plan.size) + 1]
    return _widen(replace(plan, size=size, about=tuple(together)), results, ())


def _crossover(plan: EvaluationPlan, results: Results, comparison: Comparison) -> list[PlannedCase]:
    """Crossover where nothing else settles the verdict of a small network on few images."""
    open_ = [v for v in results.of(plan, comparison) if v and v.name == VerdictName.NOT_SETTLED]
    ran = [case for case in plan.attacks[comparison] if case in results.sizes]
    wide = any(verdict.rule == CONTAINS_THRESHOLD for verdict in open_)
    if comparison.subject.spec != STANDARD or not open_ or wide or not ran:
        return []
    relus = plan.relus(comparison.subject.checkpoint) * results.sizes[ran[0]]
    return [replace(ran[0], case=ran[0].case.of_attack(presets.RECOMBINED))] * (0 < relus <= MOST_RELUS)
