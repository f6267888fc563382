"""The protocol: an ordered table of rungs, the first of which that has a step decides what runs next.

``next_step(plan, evidence)`` is a function of frozen arguments: no clock, no folder, no worker. The same
evidence gives the same step, on any machine, so an evaluation that was interrupted goes on as if it had not
been. Whole batches climb the rungs first, then single victims. docs/protocol.md has the table for readers.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from attacks import presets
from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.planning.comparisons import Comparison, random_batch_images
from robustbench_coded.evaluation.protocol.follow_up import follow_up
from robustbench_coded.evaluation.protocol.random_batches import CLEAN_BATCHES, batches_that_hold, proof_of
from robustbench_coded.evaluation.protocol.resubmission import as_victims, resubmissions
from robustbench_coded.evaluation.protocol.state import (
    CaseAtSize,
    EvaluationPlan,
    Evidence,
    ScheduledRandomBatches,
    Step,
    affordable,
    at_size,
    at_start,
    extras_fit,
    open_comparisons,
    size_of,
    standings_of,
    verdict_fits,
    waiting,
)
from robustbench_coded.schema.words import CLEAN, STANDARD, VerdictName

VERSION = "1"
MANY_BATCHES = 40  # of clean inputs, which say enough of the clean accuracy
CHECK_ROUNDS = 6  # how often checks may ask for attacks at one sample size
# Crossover is for small networks on few images: at most so many ReLUs times images, 100,000 of which take
# about a minute (benchmarks/peers/hard_images.md).
MOST_RELUS = 200_000
BY_CHECKS = "attacks that open checks ask for"
# Verdicts that further attacks on the defence cannot change, but those on its base model may.
CONDEMNED_BESIDE_BASE = (VerdictName.NO_GAIN, VerdictName.WORSE_THAN_BASE, VerdictName.CLAIM_REFUTED)
MAY_BE_POSITIVE = (VerdictName.NOT_SETTLED, VerdictName.NO_FAILURE_FOUND)


@dataclass(frozen=True)
class Rung:
    """A row of the table.

    Attributes:
        name: as run.json and reports have it.
        step: (plan, evidence, True for single victims) -> the step of this rung; None where it has none.
        says: what runs, for users.
        runs_on: which subjects, and how many images. skipped: when it does not run.
        guards: the error that would pass without it.
        shown, hidden: its attacks in their order, where torch has the defence's gradient and where an
            operator hides it.
    """

    name: str
    step: Callable[[EvaluationPlan, Evidence, bool], Step | None]
    says: str
    runs_on: str
    skipped: str
    guards: str
    shown: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


def next_step(plan: EvaluationPlan, evidence: Evidence) -> Step | None:
    """The step of the first rung that has one; None when nothing is left to do."""
    rungs = [rung for rung in RUNGS if not plan.rungs or rung.name in plan.rungs]
    steps = (rung.step(plan, evidence, victims) for victims in (False, True) for rung in rungs)
    return next((step for step in steps if step is not None), None)


# The rungs. Each proposes steps if those before it have none.


def _answer_clean_inputs(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    clean = [case for case in plan.cases if case.attack == CLEAN]
    return _step("clean", "accuracy on unperturbed images", at_start(plan, evidence, clean))


def _attack_quickly(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """One attack on each open verdict, whatever it costs."""
    chosen: list[CaseAtSize] = []
    for comparison in open_comparisons(plan, evidence, victims):
        attacks = plan.attacks[comparison]
        if attacks and not any(case in evidence.sizes for case in attacks):
            quickest = min(attacks, key=lambda case: _quickness(plan, case))
            chosen += at_start(plan, evidence, [quickest])
    return _step("quick", "one cheap attack on each open verdict", chosen)


def _confirm(plan: EvaluationPlan, evidence: Evidence, victims: bool, *, last: bool = False) -> Step | None:
    """Until no attack is left, for what settles a verdict whatever else would run."""
    random: list[ScheduledRandomBatches] = []
    for comparison in open_comparisons(plan, evidence, victims):
        ahead = evidence.after(Step("", "", (), tuple(random)))
        proof = proof_of(plan, evidence, comparison, last=last)
        if proof and (last or proof.certain) and extras_fit(plan, ahead, proof.batches.images):
            random.append(proof.batches)
    return _step("confirm", "random batches to confirm the break", (), random)


def _run_rows(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    rows = [case for case in plan.cases if case in plan.rows]
    return _step("named rows", "rows of every table", at_start(plan, evidence, rows))


def _adapt(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """One more attack on each open verdict: the first in order that fits.

    None where random batches are about to settle it, nor where only its base model may still change it.
    """
    chosen: list[CaseAtSize] = []
    for comparison in open_comparisons(plan, evidence, victims):
        standings = standings_of(plan, evidence, comparison)
        by_base = all(standing.verdict in CONDEMNED_BESIDE_BASE for standing in standings)
        if not by_base and not proof_of(plan, evidence, comparison):
            chosen += _next_attack(plan, evidence, comparison)
    step = _step("adaptive", "the next attack on each open verdict", chosen)
    return step or _confirm(plan, evidence, victims, last=True)


def _self_test(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """Once: a positive verdict needs self-tests, and checks read them."""
    if any(step.rung == SELF_TESTS for step in evidence.steps):
        return None
    return Step(SELF_TESTS, "gradients and answers of each defence")


def _submit(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """Repeated after every attack since, which may have other results."""
    latest = next((step.rung for step in reversed(evidence.lately) if step.cases), "")
    if latest == SUBMISSIONS:
        return None
    open_ = open_comparisons(plan, evidence, victims)
    if victims:
        offered = as_victims(evidence, open_)
    else:
        everywhere = plan.everything and plan.ceilings.extras is None
        at = list(plan.judged) if everywhere else open_
        offered = resubmissions(plan, evidence, [c for c in at if c.inputs == "batch"])
    reason = "perturbed inputs found so far, submitted elsewhere"
    return _step(SUBMISSIONS, reason, affordable(plan, evidence, offered))


def _doubt(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """Special attacks; then the attacks of open checks, at any radius; then crossover."""
    open_ = open_comparisons(plan, evidence, victims)
    positive = [c for c in open_ if _would_be_positive(plan, evidence, c)]
    concerned = [c for c in open_ if any(c in plan.with_base(other) for other in positive)]
    deferred = [case for c in concerned for case in waiting(plan, evidence, c, deferred=True)]
    reason = "costly attacks before a positive verdict"
    if step := _step(POSITIVE, reason, affordable(plan, evidence, deferred)):
        return step
    if plan.checks and [step.reason for step in evidence.lately].count(BY_CHECKS) < CHECK_ROUNDS:
        about = {(c.subject, c.inputs) for c in open_}
        cases = [case for case in follow_up(plan, evidence)[0] if (case.subject, case.threat.inputs) in about]
        if step := _step(POSITIVE, BY_CHECKS, affordable(plan, evidence, cases)):
            return step
    crossed = [case for c in open_ for case in _crossover(plan, evidence, c)]
    reason = "results close to the boundary, recombined"
    return _step(POSITIVE, reason, affordable(plan, evidence, crossed))


def _take_more(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """Random batches of every attack near the strongest, where few disjoint batches hold a positive verdict
    back; then twice the examples for verdicts whose interval contains the threshold, and for their bases.
    """
    open_ = open_comparisons(plan, evidence, victims)
    random = [part for c in open_ for part in batches_that_hold(plan, evidence, c)]
    if step := _step(MORE, "random batches to show that the accuracy is above the bar", (), random):
        return step
    cases: dict[PlannedCase, int] = {}
    reached: dict[Comparison, int] = {}
    for comparison in open_:
        for case, size in _wider(plan, evidence, comparison).items():
            cases[case] = max(cases.get(case, 0), size)
            reached |= {c: max(reached.get(c, 0), size) for c in _widened(plan, comparison)}
    parts = [part for case, size in cases.items() for part in at_size(plan, evidence, [case], size)]
    if reached:
        reason = "more images where an interval contains the threshold"
        return Step(MORE, reason, tuple(parts), reached=tuple(reached.items()))
    return _answer_clean_batches(plan, evidence)


def _answer_clean_batches(plan: EvaluationPlan, evidence: Evidence) -> Step | None:
    """Few batches say little of the clean accuracy of a batch-dependent defence: random ones say more."""
    random: list[ScheduledRandomBatches] = []
    for case, size in evidence.sizes.items() if plan.random_batches else ():
        few = case.subject.batch_dependent and size < MANY_BATCHES * case.subject.k
        few &= not case.threat.one_victim
        if case.attack == CLEAN and few and case not in evidence.random:
            price = CLEAN_BATCHES * random_batch_images(case)
            if extras_fit(plan, evidence.after(Step("", "", (), tuple(random))), price):
                random.append(ScheduledRandomBatches(case, CLEAN_BATCHES, size, price))
    return _step(MORE, "random batches of unperturbed images", (), random)


SELF_TESTS, SUBMISSIONS, MORE = "self-tests", "cross-examination", "more examples"
POSITIVE = "before a positive verdict"
FIRST = "everything, 256 images or more"
# Each: name and step; what runs; on what, and where not; what it guards against; its attacks.
RUNGS: tuple[Rung, ...] = (
    Rung("clean", _answer_clean_inputs, "Clean accuracy.",
         FIRST, "never", "Figures that nothing is compared with.", (CLEAN,), (CLEAN,)),
    Rung("quick", _attack_quickly,
         "One of these: the base model's gradients where inputs are answered together.",
         FIRST, "never", "Hours on what falls in seconds.", presets.QUICK, presets.QUICK_HIDDEN),
    Rung("confirm", _confirm, "Random batches of the same perturbed inputs.",
         "batch-dependent, open", "they are not likely to prove a break",
         "Breaks that few disjoint batches cannot prove."),
    Rung("named rows", _run_rows, "Rows of every table.",
         FIRST, "`--until`", "Tables that cannot be compared.", presets.NAMED, presets.NAMED),
    Rung("adaptive", _adapt, "In order.",
         "open verdicts", "only the base model may change it",
         "Gradients tied to one draw, one loss or one operator.",
         presets.ADAPTIVE, (*presets.ADAPTIVE_HIDDEN, *presets.ADAPTIVE)),
    Rung(SELF_TESTS, _self_test, "Short tests of gradients and answers.",
         "everything", "never", "Gradients that say nothing."),
    Rung(SUBMISSIONS, _submit, "Other subjects' perturbed inputs; its own, rounded or on victims.",
         "open verdicts", "half a point or less is left", "Defences that recognise attacks on themselves."),
    Rung(POSITIVE, _doubt,
         "These, on victims `pgd-10` and `aware-pgd-10` (margin); what open checks ask for; crossover.",
         "what would be positive, and its base", "figures rule it out",
         "Attacks that stopped early or looked elsewhere.", presets.DEFERRED, presets.DEFERRED),
    Rung(MORE, _take_more, "Random batches of the strongest attacks, then twice the images.",
         "intervals that contain a threshold", "all images ran", "Verdicts by chance."),
)  # fmt: skip
# Of csrobust screen, whose adaptive attacks are one of each kind.
SCREEN = ("clean", "quick", "confirm", "adaptive", SELF_TESTS, MORE)


# What they need.


def _quickness(plan: EvaluationPlan, case: PlannedCase) -> tuple[bool | int, ...]:
    """The least comes first: the row's attacks in their order, then the cheapest of several steps."""
    attack, subject = case.made_by, case.subject
    assert attack is not None
    rung = presets.QUICK_HIDDEN if subject.hides_gradient else presets.QUICK
    through_base = attack.knows == "transfer" and (subject.batch_dependent or subject.hides_gradient)
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


def _next_attack(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> list[CaseAtSize]:
    """The first in order that fits, or none."""
    size, late = size_of(plan, evidence, comparison), waiting(plan, evidence, comparison)
    parts = at_size(plan, evidence, _in_order(comparison, late), size)
    return next(([part] for part in parts if verdict_fits(plan, evidence, comparison, part.images)), [])


def _would_be_positive(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> bool:
    """True if figures leave room for a positive verdict, as far as more examples go."""
    positive = any(s.verdict in MAY_BE_POSITIVE for s in standings_of(plan, evidence, comparison))
    return positive and not _wider(plan, evidence, comparison)


def _wider(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> dict[PlannedCase, int]:
    """The cases that a verdict rests on, on twice the examples; none where that would not help or not fit."""
    size = size_of(plan, evidence, comparison)
    # More images bring no interval where the draw is known.
    unknown = [not setting.threat.draw_known for setting in plan.judged[comparison]]
    standings = zip(standings_of(plan, evidence, comparison), unknown, strict=True)
    undecided = any(standing.by_interval for standing, helps in standings if helps)
    if size == plan.sizes[-1] or not undecided or waiting(plan, evidence, comparison):
        return {}
    size, together = plan.sizes[plan.sizes.index(size) + 1], _widened(plan, comparison)
    wider = [
        case
        for case, before in evidence.sizes.items()
        if not case.submission and before < size and any(other.holds(case) for other in together)
    ]
    cost = sum(part.images for part in at_size(plan, evidence, wider, size))
    return dict.fromkeys(wider, size) if verdict_fits(plan, evidence, comparison, cost) else {}


def _widened(plan: EvaluationPlan, comparison: Comparison) -> list[Comparison]:
    """Comparisons that take more examples together. A base model has met a defence's victims before."""
    return [comparison] if comparison.one_victim else plan.with_base(comparison)


def _crossover(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison) -> list[PlannedCase]:
    """Crossover where nothing else settles the verdict of a small network on few images."""
    standings = standings_of(plan, evidence, comparison)
    by_checks = any(s.verdict == VerdictName.NOT_SETTLED for s in standings)
    by_checks &= not any(s.by_interval for s in standings)
    ran = [case for case in plan.attacks[comparison] if case in evidence.sizes]
    if comparison.subject.spec != STANDARD or not by_checks or not ran:
        return []
    relus = plan.relus(comparison.subject.checkpoint) * evidence.sizes[ran[0]]
    return [replace(ran[0], case=ran[0].case.of_attack(presets.RECOMBINED))] * (0 < relus <= MOST_RELUS)


def _step(
    rung: str, reason: str, cases: Iterable[CaseAtSize], random: Iterable[ScheduledRandomBatches] = ()
) -> Step | None:
    """The step, or None where nothing is in it."""
    step = Step(rung, reason, tuple(cases), tuple(random))
    return step if step.cases or step.random else None


def lacking(plan: EvaluationPlan, evidence: Evidence) -> int:
    """Gradient evaluations that open verdicts would take next, were there no ceiling: as far as the outcomes
    so far tell, and not beyond twice the examples.
    """
    free, images = replace(plan, ceilings=type(plan.ceilings)(), rows=frozenset(), random_batches=False), 0
    while (step := next_step(free, evidence)) is not None:
        images += step.images
        if step.reached:
            break
        evidence = evidence.after(step)
    return images
