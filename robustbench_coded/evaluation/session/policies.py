"""What an evaluation runs next, or that nothing is left: an ordered table of policies, the first of which
that has a step decides.

``next_step(plan, evidence)`` is a function of frozen arguments: no clock, no folder, no worker. While a
verdict is open, the answer is an attack, random batches, self-tests, submitted inputs, what a check asks
for, or more examples; then the table is filled. The same evidence gives the same step, on any machine, so an
evaluation that was interrupted goes on as if it had not been.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from attacks import naming, presets
from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.planning.comparisons import (
    Comparison,
    comparison_of,
    random_batch_images,
)
from robustbench_coded.evaluation.session.random_batches import (
    Bar,
    batches_that_hold,
    clean_share,
    likely_batches,
)
from robustbench_coded.evaluation.session.schedule import (
    Ceilings,
    EvaluationPlan,
    Evidence,
    ScheduledRandomBatches,
    Sized,
    Standing,
    Step,
    at_size,
    extras_fit,
    open_comparisons,
    shares_of,
    size_of,
    standings_of,
    verdict_fits,
    waiting,
)
from robustbench_coded.schema.words import CLEAN, CONTROLS, STANDARD, VerdictName

# Of the clean accuracy, what an attack is expected to take away where it has not run yet. Gradients of the
# base model serve any batch: their inputs can be scored in random batches, which settles verdicts.
GUESSED = {"transfer": 1.0, "aware": 0.95, "fresh": 0.9, "fixed": 0.8}
OTHERWISE = 0.7
# Where an operator hides the gradient: attacks that smooth it, and others.
SMOOTHED, HIDDEN = 0.95, 0.3
IN_ANY_BATCH = 3.0
CLEAN_RANDOM_BATCHES = 100
MANY_BATCHES = 40  # of clean inputs, which say enough of the clean accuracy
CHECK_ROUNDS = 6  # how often checks may ask for attacks at one sample size
# Where nothing else settles a network's verdict: at most so many ReLUs times images, 100,000 of which
# take about a minute (benchmarks/peers/hard_images.md).
MOST_RELUS = 200_000
MORE_EXAMPLES, SELF_TESTS = "more examples", "self-tests"
# Verdicts that further attacks on the defence cannot change, but those on its base model may.
CONDEMNED_BESIDE_BASE = (VerdictName.NO_GAIN, VerdictName.WORSE_THAN_BASE, VerdictName.CLAIM_REFUTED)
Policy = Callable[[EvaluationPlan, Evidence], Step | None]


def next_step(plan: EvaluationPlan, evidence: Evidence) -> Step | None:
    """The step of the first policy that has one; None when nothing is left to do."""
    return next((step for policy in POLICIES if (step := policy(plan, evidence))), None)


# The policies. Each is asked where those before it have no step. ``victims``: whether it is asked for
# comparisons of single victims, or for those of whole batches.


def _answer_clean_inputs(plan: EvaluationPlan, evidence: Evidence) -> Step | None:
    """Every figure is compared with the clean accuracy."""
    clean = [case for case in plan.cases if case.attack == CLEAN]
    return _step(
        "clean", "accuracies are compared with the clean one", at_size(plan, evidence, clean, plan.start)
    )


PROOFS: dict[Bar, tuple[str, str]] = {  # names and reasons of these steps
    "certain": ("break", "an attack left so little that random batches prove it"),
    "known": ("random batches", "they may prove that what is left is no gain"),
    "broken": ("broken", "they may prove that next to nothing is left"),
}


def _prove(plan: EvaluationPlan, evidence: Evidence, victims: bool, bar: Bar) -> Step | None:
    """Random batches for attacks that left so little that these are likely to prove it: less than a bar.

    Args:
        bar: ``certain`` settles the verdict whatever else would run, ``known`` is the bar as far as the base
            model has been attacked; ``broken`` is next to nothing, which may be a gain all the same.
    """
    policy, reason = PROOFS[bar]
    random: list[ScheduledRandomBatches] = []
    for comparison in open_comparisons(plan, evidence, victims):
        batches = likely_batches(plan, evidence, comparison, bar)
        if batches and extras_fit(plan, evidence, batches.images + sum(part.images for part in random)):
            random.append(batches)
    return _step(_named(policy, victims), reason, (), random)


def _attack(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """One more attack on each open comparison: what is expected to take away most for its cost. Where none
    fits, one is paid all the same, the cheapest.

    Not where random batches are about to settle it, nor where only its base model may still change it.
    """
    chosen: list[Sized] = []
    for comparison in open_comparisons(plan, evidence, victims):
        standings = standings_of(plan, evidence, comparison)
        if all(standing.verdict in CONDEMNED_BESIDE_BASE for standing in standings):
            continue
        if likely_batches(plan, evidence, comparison, "known"):
            continue
        ran = any(case in evidence.sizes for case in plan.attacks.get(comparison, ()))
        late = waiting(plan, evidence, comparison)
        late.sort(key=lambda case: _damage(plan, evidence, comparison, case), reverse=True)
        parts = at_size(plan, evidence, late, size_of(plan, evidence, comparison))
        fitting = [part for part in parts if verdict_fits(plan, evidence, comparison, part.images)]
        if fitting:
            chosen.append(fitting[0])
        elif parts and not ran:
            chosen.append(min(parts, key=lambda part: part.images))
    reason = "expected to take away most for its cost, where a verdict is open"
    return _step(_named("attack", victims), reason, chosen)


def _self_test(plan: EvaluationPlan, evidence: Evidence) -> Step | None:
    """Once, where attacks alone have not condemned: praise needs self-tests, and checks read them."""
    if any(step.policy == SELF_TESTS for step in evidence.steps):
        return None
    return Step(SELF_TESTS, "attacks are tested on each defence before its checks are read")


def _submit(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """Perturbed inputs submitted elsewhere, again after attacks of checks, which may find something else."""
    rounds = [step.policy for step in evidence.lately]
    if rounds.count("submissions") > rounds.count("checks"):
        return None
    open_ = plan.judged if plan.submits_everywhere else open_comparisons(plan, evidence, victims)
    wanted = [case for case in evidence.submissions if comparison_of(case) in open_]
    reason = "perturbed inputs that were found so far, submitted where a verdict is open"
    return _step("submissions", reason, _affordable(plan, evidence, wanted))


def _check(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """The attacks that checks of open comparisons ask for, at any radius."""
    name = _named("checks", victims)
    if not plan.checks or [step.policy for step in evidence.lately].count(name) >= CHECK_ROUNDS:
        return None
    open_ = [(c.subject, c.inputs) for c in open_comparisons(plan, evidence, victims)]
    wanted = [case for case in evidence.checks if (case.subject, case.threat.inputs) in open_]
    return _step(name, "checks of an open verdict ask for them", _affordable(plan, evidence, wanted))


def _recombine(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """Crossover where nothing else settles the verdict of a small network on few images."""
    wanted = []
    for comparison in open_comparisons(plan, evidence, victims):
        standings = standings_of(plan, evidence, comparison)
        stuck = any(standing.verdict == VerdictName.NOT_SETTLED for standing in standings)
        ran = [case for case in plan.attacks.get(comparison, ()) if case in evidence.sizes]
        if comparison.subject.spec != STANDARD or not stuck or any(map(_by_interval, standings)) or not ran:
            continue
        if 0 < plan.relus(comparison.subject.checkpoint) * evidence.sizes[ran[0]] <= MOST_RELUS:
            wanted.append(replace(ran[0], case=ran[0].case.of_attack(presets.RECOMBINED)))
    reason = "what attacks left close to the boundary, recombined"
    return _step("recombine", reason, _affordable(plan, evidence, wanted))


def _prove_that_it_holds(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """Random batches of every attack near the strongest, where few disjoint batches hold praise back."""
    random: list[ScheduledRandomBatches] = []
    for comparison in open_comparisons(plan, evidence, victims):
        random += batches_that_hold(plan, evidence, comparison)
    return _step("what holds", "they may prove that what is left is above the bar", (), random)


def _take_more_examples(plan: EvaluationPlan, evidence: Evidence, victims: bool) -> Step | None:
    """Twice the examples for verdicts whose interval contains the bar, and for what they are compared
    with.
    """
    cases: dict[PlannedCase, int] = {}
    reached: dict[Comparison, int] = {}
    for comparison in open_comparisons(plan, evidence, victims):
        size = size_of(plan, evidence, comparison)
        undecided = any(map(_by_interval, standings_of(plan, evidence, comparison)))
        if size == plan.sizes[-1] or not undecided or waiting(plan, evidence, comparison):
            continue
        size, together = _next(plan.sizes, size), _with_base(plan, comparison)
        wider = [
            case
            for case, before in evidence.sizes.items()
            if not case.submission
            and case not in evidence.for_table
            and before < size
            and any(other.holds(case) for other in together)
        ]
        cost = sum(part.images for part in at_size(plan, evidence, wider, size))
        if verdict_fits(plan, evidence, comparison, cost):
            cases |= {case: max(cases.get(case, 0), size) for case in wider}
            reached |= {other: max(reached.get(other, 0), size) for other in together}
    parts = [part for case, size in cases.items() for part in at_size(plan, evidence, [case], size)]
    reason = "an interval contains the bar, and more examples make it shorter"
    return Step(MORE_EXAMPLES, reason, tuple(parts), reached=tuple(reached.items())) if reached else None


def _run_first_rows(plan: EvaluationPlan, evidence: Evidence) -> Step | None:
    """The paper's rows of the table, or those of attacks that the user named, on 256 examples at least."""
    cases = [case for case in plan.cases if case in plan.first_rows and plan.ceilings.table != 0]
    parts = at_size(plan, evidence, cases, plan.start)
    return _step("first rows", "rows that every table has", parts, for_table=True)


def _fill_the_table(plan: EvaluationPlan, evidence: Evidence) -> Step | None:
    """The other rows of the table, and more examples for all, as far as the ceiling goes."""
    if plan.ceilings.table == 0 or any(step.policy == "table" for step in evidence.steps):
        return None
    cases = table_sizes(plan, evidence)
    parts = [part for case, size in cases.items() for part in at_size(plan, evidence, [case], size)]
    return _step("table", "the table is filled", parts, for_table=True)


def _fill_the_table_first(plan: EvaluationPlan, evidence: Evidence) -> Step | None:
    """Where every case of it runs on all examples anyway, checks and submissions go by all of them."""
    return _fill_the_table(plan, evidence) if plan.table_first else None


def _answer_clean_batches(plan: EvaluationPlan, evidence: Evidence) -> Step | None:
    """Few batches say little of the clean accuracy of a batch-dependent defence: random ones say more."""
    random: list[ScheduledRandomBatches] = []
    for case, size in evidence.sizes.items() if plan.random_batches else ():
        many = not case.subject.batch_dependent or -(-size // case.subject.k) >= MANY_BATCHES
        if case.attack == CLEAN and not many and case not in evidence.random:
            price = CLEAN_RANDOM_BATCHES * random_batch_images(case)
            batches = ScheduledRandomBatches(case, CLEAN_RANDOM_BATCHES, size, price)
            if extras_fit(plan, evidence, batches.images + sum(part.images for part in random)):
                random.append(batches)
    reason = "few batches say little of the clean accuracy"
    return _step("clean batches", reason, (), random, for_table=True)


def _of(kind: str, *policies: Callable[..., Step | None]) -> list[Policy]:
    return [partial(policy, victims=kind == "victims") for policy in policies]


_prove_a_break = partial(_prove, bar="certain")
_prove_no_gain = partial(_prove, bar="known")
_prove_it_broken = partial(_prove, bar="broken")

POLICIES: tuple[Policy, ...] = (
    _answer_clean_inputs,
    *_of("batches", _prove_a_break, _attack, _prove_no_gain),
    _self_test,
    _fill_the_table_first,
    *_of("batches", _submit, _check, _recombine, _prove_it_broken),
    *_of("batches", _prove_that_it_holds, _take_more_examples),
    _run_first_rows,
    *_of("victims", _prove_a_break, _attack, _prove_no_gain, _check, _prove_it_broken, _take_more_examples),
    _fill_the_table,
    _answer_clean_batches,
)


# What they need.


def table_sizes(plan: EvaluationPlan, evidence: Evidence) -> dict[PlannedCase, int]:
    """The sample size of each row of the table, so that all of them together cost what the ceiling says.

    First the cases that are always paid; then the others, the cheapest first, on as many examples as these,
    or on one batch where no more fits. Then the case that is the cheapest with twice its examples gets them.
    No case goes further than the clean inputs of its subject, which are what it is compared with.
    """
    ceiling, sizes = plan.ceilings.table, plan.sizes
    cases = [case for case in plan.cases if case in plan.table]
    if ceiling is None:
        return dict.fromkeys(cases, sizes[-1])
    chosen = {case: evidence.sizes[case] for case in cases if case in evidence.sizes}
    for case in cases:
        if case in plan.first_rows or case.attack in CONTROLS:
            chosen[case] = max(chosen.get(case, 0), plan.start)
    left = ceiling - sum(plan.images(case, size) for case, size in chosen.items())
    for case in sorted(cases, key=lambda case: plan.images(case, plan.start)):
        fitting = (size for size in (plan.start, sizes[0]) if plan.images(case, size) <= left)
        if case not in chosen and (size := next(fitting, 0)):
            chosen[case] = size
            left -= plan.images(case, size)
    clean = {case.subject: case for case in cases if case.attack == CLEAN}
    growing = [case for case in cases if chosen.get(case, sizes[-1]) < sizes[-1]]
    while growing:
        case = min(growing, key=lambda case: plan.images(case, _next(sizes, chosen[case])))
        further = {case: _next(sizes, chosen[case])}
        own = clean.get(case.subject, case)
        further[own] = max(chosen[own], further[case])
        cost = sum(plan.images(c, size) - plan.images(c, chosen[c]) for c, size in further.items())
        if cost <= left:
            left -= cost
            chosen |= further
        else:
            growing.remove(case)
        growing = [case for case in growing if chosen[case] < sizes[-1]]
    return {case: chosen[case] for case in cases if case in chosen}


def lacking(plan: EvaluationPlan, evidence: Evidence) -> int:
    """Image gradients that open verdicts would take next, were there no ceiling: as far as the outcomes so
    far tell, and not beyond twice the examples.
    """
    free = replace(plan, ceilings=Ceilings(None, 0, None))
    evidence, images = replace(evidence, steps=tuple(s for s in evidence.steps if not s.for_table)), 0
    while (step := next_step(free, evidence)) is not None and not step.for_table:
        images += step.images
        if step.policy == MORE_EXAMPLES:
            break
        evidence = replace(evidence, steps=(*evidence.steps, step))
    return images


def _named(policy: str, victims: bool) -> str:
    return f"{policy} of victims" if victims else policy


def _damage(plan: EvaluationPlan, evidence: Evidence, comparison: Comparison, case: PlannedCase) -> float:
    """Accuracy that an attack is expected to take away, for each image. One of one step comes last: those of
    more steps find what it finds.
    """
    name, subject = naming.parse(case.attack), comparison.subject
    if name.algorithm == presets.ONE_STEP:
        return 0.0
    seen = []
    for other, cases in plan.attacks.items():
        if other.inputs == comparison.inputs and other.subject != subject:
            left = shares_of(evidence, (like for like in cases if like.attack == case.attack))
            seen += [1 - share / max(clean_share(evidence, other), share, 1e-9) for share in left]
    guess = GUESSED.get(name.estimator, OTHERWISE)
    if subject.hides_gradient and name.differentiates and name.estimator != "transfer":
        guess = SMOOTHED if name.relaxed else HIDDEN
    expected = sum(seen) / len(seen) if seen else guess
    if subject.batch_dependent and name.estimator == "transfer" and not seen:
        expected *= IN_ANY_BATCH
    return expected / max(plan.images(case, size_of(plan, evidence, comparison)), 1)


def _with_base(plan: EvaluationPlan, comparison: Comparison) -> list[Comparison]:
    base = plan.base(comparison)
    return [comparison] if base is None else [comparison, base]


def _by_interval(standing: Standing) -> bool:
    """Whether a verdict is open because its interval contains the bar."""
    return standing.verdict == VerdictName.NOT_SETTLED and not standing.above_the_bar


def _affordable(plan: EvaluationPlan, evidence: Evidence, cases: Iterable[PlannedCase]) -> list[Sized]:
    """Cases that have not run, each in its order while its comparison and all extras have room for it."""
    chosen: list[Sized] = []
    for case in cases:
        own = comparison_of(case)
        if case in evidence.sizes:
            continue
        (part,) = at_size(plan, evidence, [case], size_of(plan, evidence, own))
        on_it = sum(other.images for other in chosen if comparison_of(other.case) == own)
        together = sum(other.images for other in chosen)
        fits = verdict_fits(plan, evidence, own, part.images + on_it)
        if fits and extras_fit(plan, evidence, part.images + together):
            chosen.append(part)
    return chosen


def _step(
    policy: str,
    reason: str,
    cases: Iterable[Sized],
    random: Iterable[ScheduledRandomBatches] = (),
    *,
    for_table: bool = False,
) -> Step | None:
    """The step, or None where nothing is in it."""
    step = Step(policy, reason, tuple(cases), tuple(random), for_table)
    return step if step.cases or step.random else None


def _next(sizes: tuple[int, ...], size: int) -> int:
    return sizes[min(sizes.index(size) + 1, len(sizes) - 1)]
