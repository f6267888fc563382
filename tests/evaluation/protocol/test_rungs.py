"""What an evaluation runs next, on made-up evidence: no network, no folder, no clock, nothing patched."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from attacks.presets import NAMED
from robustbench_coded.evaluation.planning.cases import ProbedSubject, planned_case
from robustbench_coded.evaluation.planning.comparisons import comparison_of
from robustbench_coded.evaluation.protocol.plan import Ceilings, EvaluationPlan, Need, Results, verdict_fits
from robustbench_coded.evaluation.protocol.random_batches import CLEAN_BATCHES, batches_of_sizes, proof_of
from robustbench_coded.evaluation.protocol.rungs import CHECK_ROUNDS, needed, next_step, wider
from robustbench_coded.judge.anytime import values_needed
from robustbench_coded.judge.checks import not_run
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.paired import Difference
from robustbench_coded.judge.rules import decide
from robustbench_coded.judge.verdict import Verdict
from robustbench_coded.schema.case import WHOLE_BATCH, Claim, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import CheckName, Rung, VerdictName

STANDARD = ProbedSubject(Subject("net", "standard", None, None), "standard", 128, False, False, False, 128)
HIDDEN = ProbedSubject(
    Subject("net", "codec", None, None), "codec", 128, False, False, True, 128, hides_gradient=True
)
RCI = ProbedSubject(Subject("net", "rci", 128, 190), "rci:N=190", 128, True, True, True, 190)
SIZES = (128, 256, 512, 1024)
PRICES = {"clean": 1, "random-sign": 1, "fgsm": 2, "pgd-10": 10, "transfer-pgd-20": 20, "pgd-100": 100}
VICTIM = ThreatModel("victim", "unknown")
ASKS = not_run(CheckName.TWICE_THE_STEPS, "", "pgd-200")
ANSWERS = 256 * 10  # of each row: images and draws
SELF_TESTS, MORE, POSITIVE = Rung.SELF_TESTS, Rung.MORE_EXAMPLES, Rung.BEFORE_POSITIVE


def judged(low, high, gain=None, *, checks=(), base=0.0, broken_at=0.15, **more):
    """The verdict on figures, by the rules; of a network alone without a gain."""
    alone = {"compared": False, "bar": broken_at}
    if gain is not None:
        difference = Difference(sum(gain) / 2, *gain, (low + high) / 2, base, 256)
        alone = {
            "compared": True,
            "bar": 0.03,
            "gain": difference,
            "base": Interval(base, base, base, images=256),
        }
    accuracy = Interval((low + high) / 2, low, high, images=256)
    figures = {**alone, "checks": tuple(checks), "broken_at": broken_at, **more}
    return decide(Verdict(VerdictName.NOT_SETTLED, "", accuracy, **figures))


WIDE = judged(0.0, 1.0, (-1.0, 1.0))  # few batches, which have no interval
OPEN = judged(0.1, 0.9)  # of a network
CHECKED = judged(
    0.5, 0.7, checks=[not_run("self-tests", "")]
)  # open by a check alone, which asks for nothing
ASKED = judged(0.5, 0.7, (0.3, 0.6), checks=[ASKS])
HELD = judged(0.5, 0.7, (0.3, 0.6), checks=[not_run("self-tests", "")])
BROKEN = judged(0.0, 0.04)
NO_GAIN = judged(0.0, 0.01, (-0.01, 0.01), broken_at=0.005)
NO_GAIN_YET = judged(0.4, 0.6, (-0.1, 0.01), base=0.5)  # unless its base model falls


def case(attack, subject=RCI, threat=WHOLE_BATCH, **more):
    eps = 0.0 if attack == "clean" else 0.1
    planned = planned_case(subject, threat, attack, Perturbation("linf", eps, "pixel"))
    return replace(planned, **more)


def images(case, size):
    return PRICES.get(case.attack, 5) * size


ON_STANDARD = tuple(case(name, STANDARD) for name in ("clean", "random-sign", "fgsm", "pgd-10", "pgd-100"))
ON_RCI = tuple(
    case(name) for name in ("clean", "random-sign", "fgsm", "pgd-10", "pgd-100", "transfer-pgd-20")
)
ON_VICTIM = case("transfer-pgd-20", threat=VICTIM)
BASE, DEFENDED, VICTIMS = (comparison_of(c) for c in (ON_STANDARD[2], ON_RCI[2], ON_VICTIM))


def plan_of(*cases, **more):
    """Until every verdict is settled, without a table, unless asked for; comparisons are judged by their
    setting.
    """
    cases = cases or ON_STANDARD + ON_RCI
    attacks = [c for c in cases if c.attack not in ("clean", "random-sign")]
    of = {comparison_of(c): (c.case.setting,) for c in attacks}
    plan = EvaluationPlan(cases, of, SIZES, 256, images, **more)
    return plan.at(plan.start)


def setting(comparison, plan):
    (key,) = plan.judged[comparison]
    return key


def row(share):
    """A result: answers to all images, of which so many are right."""
    correct = (np.arange(ANSWERS) < round(share * ANSWERS)).reshape(-1, 10)
    return SimpleNamespace(cell=SimpleNamespace(correct=correct))


def simulate(plan, left=0.9, verdicts=None, most=80):
    """The results after an evaluation whose outcomes are made up.

    Args:
        left: the share of right answers that an attack leaves, or (case) -> share.
        verdicts: (steps so far) -> verdict by comparison; all open by their interval without it.
    """
    results, share = Results(), left if callable(left) else lambda case: left
    more = []
    for size in [size for size in SIZES if size >= plan.start]:
        plan = plan.at(size, more)
        while plan.about and (step := next_step(plan, results)) is not None:
            steps = (*results.steps, step)
            assert len(steps) < most, [s.rung for s in steps]
            ran = Results(steps)
            told = {c: OPEN if c.subject == STANDARD else WIDE for c in plan.judged}
            told |= (verdicts or (lambda steps: {}))(steps)
            rows = {c: row(1.0 if c.attack == "clean" else share(c)) for c in ran.sizes}
            base = min(
                (share(c) for c in ran.sizes if c.subject == STANDARD and c.attack != "clean"), default=1
            )
            of = {}
            for comparison, verdict in told.items():
                if verdict.base is not None:  # its bars
                    verdict = replace(verdict, base=Interval(base, base, base, images=256))
                if any(comparison_of(c) == comparison for c in ran.sizes if c.attack != "clean"):
                    of[setting(comparison, plan)] = verdict
            lowest = min((share(c) for c in ran.sizes if c.subject == RCI and c.attack != "clean"), default=1)
            near = tuple(
                c.case
                for c in ran.sizes
                if c.subject == RCI and c.attack not in ("clean", "random-sign") and share(c) <= lowest + 0.03
            )
            results = replace(
                ran,
                rows=rows,
                verdicts=of,
                strongest={setting(DEFENDED, plan): near} if DEFENDED in plan.judged else {},
            )
        more = wider(plan, results)
    return results


def rungs(evidence):
    return [step.rung for step in evidence.steps]


def ran(step):
    return [] if step.batches else [(case.subject.label, case.attack) for case in step.cases]


def scored(evidence):
    """The steps that score attacks in random batches."""
    return [step for step in evidence.steps if step.batches and step.cases[0].attack != "clean"]


def test_the_protocol_needs_no_torch():
    code = "import sys, robustbench_coded.evaluation.protocol.rungs; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_clean_inputs_come_first_then_one_cheap_attack_on_each_verdict_then_the_others_in_their_order():
    results = simulate(plan_of())
    clean, quick, *_ = results.steps
    assert [(case.attack, clean.images) for case in clean.cases] == [("clean", 256)] * 2
    # Gradients of the base model serve any batch, and settle a verdict in random ones.
    assert ran(quick) == [("standard", "pgd-10"), ("rci", "transfer-pgd-20")]
    assert quick.gradients == 256 * (10 + 20) and "open verdict" in quick.reason
    later = [ran(step) for step in results.steps if step.rung == "adaptive"]
    assert later == [
        [("standard", "fgsm"), ("rci", "pgd-10")], [("standard", "pgd-100"), ("rci", "fgsm")],
        [("rci", "pgd-100")],
    ]  # fmt: skip


def test_the_order_depends_on_no_other_subject():
    alone = simulate(plan_of(*ON_RCI))
    both = simulate(plan_of(), lambda c: 0.0 if c.attack == "pgd-100" else 0.9)
    orders = [
        [name for step in results.steps[:5] for label, name in ran(step) if label == "rci"]
        for results in (alone, both)
    ]
    assert orders[0] == orders[1]


@pytest.mark.parametrize(
    ("names", "subject", "first"),
    [
        (("pgd-100", "pgd-7", "fgsm"), STANDARD, "fgsm pgd-7"),  # the cheapest of several steps
        (("pgd-7", "transfer-pgd-40"), RCI, "transfer-pgd-40"),
        (("pgd-10", "relaxed-pgd-40"), replace(STANDARD, hides_gradient=True), "relaxed-pgd-40"),
        (("transfer-pgd-20", "relaxed-pgd-20+momentum=1"), HIDDEN, "transfer-pgd-20"),
        (
            ("transfer-pgd-20", "relaxed-pgd-20+momentum=1"),
            replace(HIDDEN, images=8 * 128),  # of a slow defence the attack that may settle it
            "relaxed-pgd-20+momentum=1",
        ),
    ],
)
def test_of_attacks_that_a_user_names_the_cheapest_comes_first(names, subject, first):
    prices = {"fgsm": 2, "pgd-7": 7, "pgd-100": 100}
    plan = plan_of(*(case(name, subject) for name in ("clean", *names)))
    plan = replace(plan, images=lambda c, size: prices.get(c.attack, 20) * size)
    quick = simulate(plan).steps[1]
    assert ran(quick)[0][1] == first.split()[-1]


def test_where_an_operator_hides_the_gradient_smoothed_attacks_come_before_those_that_follow_it():
    hidden = replace(STANDARD, hides_gradient=True)
    names = ("clean", "pgd-10", "apgd-mt-20", "relaxed-eot4-apgd-ce-50", "relaxed-pgd-20+momentum=1")
    results = simulate(plan_of(*(case(name, hidden) for name in names)))
    met = [name for step in results.steps for _, name in ran(step) if step.rung in ("quick", "adaptive")]
    assert met == ["relaxed-pgd-20+momentum=1", "relaxed-eot4-apgd-ce-50", "pgd-10", "apgd-mt-20"]


def settled_by_batches(steps):
    return {DEFENDED: NO_GAIN, BASE: BROKEN} if any(step.batches for step in steps) else {}


@pytest.mark.parametrize("share", [0.0, 0.06])
def test_a_break_is_proven_in_as_many_random_batches_as_it_takes_before_anything_else(share):
    """Broken means at most 5% above a tenth; that the gain is below 3 points says no more."""
    left = {"transfer-pgd-20": share, "fgsm": 0.5}
    results = simulate(plan_of(), lambda c: left.get(c.attack, 0.9), settled_by_batches)
    assert rungs(results) == ["clean", "quick", "confirm", SELF_TESTS, MORE]  # clean inputs, in the end
    proof = results.steps[2]
    assert [c.attack for c in proof.cases] == ["transfer-pgd-20"] and proof.images == 256
    answers = (round(share * ANSWERS) + 1) / (ANSWERS + 1)
    assert proof.batches == values_needed(answers, 0.15, plan_of().tail)
    assert proof.gradients == proof.batches * (190 // 3)


def test_no_random_batches_are_scored_for_what_so_few_images_cannot_show():
    """None right of 64 images leaves more than 3% of others, and less than 15%."""
    plan = replace(plan_of(*ON_RCI), sizes=(64,), start=64).at(64)
    answers = np.zeros((64, 10), bool)
    few = Results(
        (Need(Rung.QUICK, "", (ON_RCI[-1],), 64),),
        {ON_RCI[-1]: SimpleNamespace(cell=SimpleNamespace(correct=answers))},
        verdicts={setting(DEFENDED, plan): WIDE},
    )
    assert proof_of(plan, few, DEFENDED).certain
    many_classes = judged(0.0, 1.0, (-1.0, 1.0), broken_at=0.02)
    assert proof_of(plan, replace(few, verdicts={setting(DEFENDED, plan): many_classes}), DEFENDED) is None


def test_what_decides_at_each_of_several_batch_sizes_is_scored_in_random_batches():
    half = replace(RCI, subject=Subject("net", "rci", 64, 190), k=64)
    attacks = [case("pgd-10", subject) for subject in (RCI, half)]
    rows = {each: row(0.5) for each in attacks}
    unscored = {each.case.setting: (each.case,) for each in attacks}
    results = Results((Need(Rung.QUICK, "", tuple(attacks), 256),), rows, unscored=unscored)
    need = batches_of_sizes(plan_of(*attacks), results)
    assert (set(need.cases), need.images, need.batches) == (set(attacks), 256, CLEAN_BATCHES)
    assert batches_of_sizes(plan_of(*attacks), replace(results, unscored={})) is None
    assert batches_of_sizes(plan_of(attacks[0]), results) is None


def test_inputs_made_together_are_scored_in_random_batches_where_others_show_too_little():
    plan = plan_of(*ON_RCI)
    transfer, together = ON_RCI[-1], case("pgd-10", ON_RCI[-1].subject)
    for right, proof in ((20, transfer), (34, together)):  # of 256; 15% is below the upper end of 34
        answers = np.zeros((256, 1), bool)
        answers[:right] = True
        rows = {transfer: answers, together: answers[::-1] & False}
        results = Results(
            (Need(Rung.QUICK, "", tuple(rows), 256),),
            {each: SimpleNamespace(cell=SimpleNamespace(correct=row)) for each, row in rows.items()},
            verdicts={setting(DEFENDED, plan): WIDE},
        )
        assert proof_of(plan, results, DEFENDED).need.cases == (proof,)


def test_the_first_attack_is_paid_whatever_it_costs_and_so_are_its_first_random_batches():
    plan = plan_of(ceilings=Ceilings(0))
    assert rungs(simulate(plan, 0.0)) == ["clean", "quick", "confirm", SELF_TESTS, MORE]
    assert rungs(simulate(plan, 0.5)) == ["clean", "quick", SELF_TESTS, MORE]


def test_what_has_no_gain_is_attacked_no_further_but_its_base_is():
    results = simulate(plan_of(), 0.5, lambda steps: {DEFENDED: NO_GAIN_YET})
    steps = [step for step in results.steps if step.rung == "adaptive"]
    assert steps and {label for step in steps for label, _ in ran(step)} == {"standard"}


def test_a_base_model_meets_what_ran_on_its_defence_alone():
    less = judged(0.4, 0.6, (-0.1, 0.01), base=0.5, unmatched_attacks="less", missing_on_base=("apgd-mt-20",))
    assert less.rule == "other attacks on the base model"
    results = simulate(plan_of(), 0.5, lambda steps: {DEFENDED: less})
    assert ("standard", "apgd-mt-20") in [pair for step in results.steps for pair in ran(step)]


def test_what_random_batches_will_settle_once_its_base_is_attacked_waits_for_that():
    """10% of a defence whose base keeps 20%: no gain, unless more attacks break the base."""
    share = {"standard": 0.2, "rci": 0.1}
    results = simulate(plan_of(), lambda c: share[c.subject.label])
    order = rungs(results)
    first = order.index("confirm")
    assert order[:first] == ["clean", "quick", "adaptive", "adaptive"]
    assert {label for step in results.steps[2:first] for label, _ in ran(step)} == {"standard"}
    answers = (round(0.1 * ANSWERS) + 1) / (ANSWERS + 1)
    assert results.steps[first].batches == values_needed(answers, 0.23, plan_of().tail)


def test_random_batches_are_doubled_once_while_the_verdict_is_open():
    results = simulate(plan_of(), lambda c: 0.0 if c.attack == "transfer-pgd-20" else 0.9)
    first = values_needed(1 / (ANSWERS + 1), 0.15, plan_of().tail)
    at_256 = [step for step in scored(results) if step.images == 256]
    assert [step.batches for step in at_256] == [first, 2 * first]
    assert at_256[1].gradients == first * (190 // 3)  # those before are not scored again


@pytest.mark.parametrize("claimed", [0.5, 0.08])
def test_a_claim_is_refuted_in_as_many_random_batches_as_it_takes_and_as_clean_inputs_get(claimed):
    asked = judged(0.0, 1.0, (-1.0, 1.0), claim=Claim(claimed, WHOLE_BATCH, None))
    plan = plan_of()
    results = simulate(plan, lambda c: 0.03 if c.subject == RCI else 0.9, lambda steps: {DEFENDED: asked})
    answers = (round(0.03 * ANSWERS) + 1) / (ANSWERS + 1)
    count = values_needed(answers, claimed, plan.tail)
    assert scored(results)[0].batches == max(count, CLEAN_BATCHES)
    assert (count > CLEAN_BATCHES) == (claimed == 0.08)  # either number decides


KEPT = tuple(case("switch-20", subject) for subject in (STANDARD, RCI))


def test_an_open_verdict_meets_everything_before_it_is_positive():
    plan = plan_of(*ON_STANDARD, *ON_RCI, *KEPT, deferred=frozenset(KEPT), relus=lambda checkpoint: 100)
    results = simulate(plan, 0.9, lambda steps: {DEFENDED: ASKED, BASE: CHECKED})
    order = list(dict.fromkeys(rungs(results)))
    assert order == ["clean", "quick", "adaptive", SELF_TESTS, "cross-examination", POSITIVE, MORE]
    special, asked, crossed = [ran(step) for step in results.steps if step.rung == POSITIVE]
    assert special == [("standard", "switch-20"), ("rci", "switch-20")]  # the base model meets the same
    assert asked == [("rci", "pgd-200")] and crossed == [("standard", "crossover-160")]


def test_only_what_would_be_positive_pays_for_special_attacks():
    plan = plan_of(*ON_STANDARD, *ON_RCI, *KEPT, deferred=frozenset(KEPT))
    broken = judged(0.05, 0.07, (0.04, 0.06), base=0.01)
    for verdict in (broken, NO_GAIN_YET):
        both = {DEFENDED: verdict, BASE: BROKEN}
        assert POSITIVE not in rungs(simulate(plan, 0.9, lambda steps, both=both: both))
    # More images come first, and where there are none it is asked all the same.
    wide = judged(0.3, 0.9, (0.0, 0.2))
    results = simulate(plan, 0.9, lambda steps: {DEFENDED: wide})
    order = rungs(results)
    assert order.index(MORE) < order.index(POSITIVE)
    assert {step.images for step in results.steps if step.rung == POSITIVE} == {1024}


@pytest.mark.parametrize("relus", [0, 200_000 // 256 + 1])
def test_crossover_is_for_small_networks_on_few_images(relus):
    plan = plan_of(relus=lambda checkpoint: relus)
    assert POSITIVE not in rungs(simulate(plan, 0.9, lambda steps: {BASE: CHECKED, DEFENDED: NO_GAIN}))


def test_every_attack_near_the_strongest_is_scored_in_random_batches_where_few_batches_leave_a_verdict_open():
    left = {"pgd-10": 0.82, "pgd-100": 0.8, "transfer-pgd-20": 0.87}
    share = lambda c: 0.6 if c.subject == STANDARD else left.get(c.attack, 0.9)  # noqa: E731
    results = simulate(plan_of(), share, lambda steps: {BASE: CHECKED})
    first = next(step for step in results.steps if step.rung == MORE and step.batches)
    assert {case.attack for case in first.cases} == {"pgd-10", "pgd-100"}
    tail = plan_of().tail / 4  # of two attacks, and half of the error of each
    # 80% against 60% and the minimum gain of 3 points
    assert first.batches == 2 * values_needed(0.2, 0.37, tail) > 20
    # Not where checks hold it back, nor where what is left is below the bar, nor in a sequence.
    assert scored(simulate(plan_of(), share, lambda steps: {DEFENDED: HELD, BASE: CHECKED})) == []
    assert scored(simulate(plan_of(random_batches=False), share)) == []
    low = simulate(plan_of(), lambda c: 0.14, lambda steps: {BASE: CHECKED})
    assert all(case.attack != "pgd-100" for step in scored(low) for case in step.cases)


def test_checks_ask_so_many_times_and_submissions_come_again_behind_each():
    def verdicts(steps):
        attacks = sum(step.rung == POSITIVE for step in steps)
        check = not_run(CheckName.TWICE_THE_STEPS, "", f"pgd-{201 + attacks}")
        return {DEFENDED: replace(ASKED, checks=(check,)), BASE: BROKEN}

    def stronger(case):  # the longer an attack, so that each of a check has something new to submit
        steps = int("".join(filter(str.isdigit, case.attack)) or 0)
        return 0.9 if case.submission else 0.9 - 0.001 * steps

    order = [
        r for r in rungs(simulate(plan_of(), stronger, verdicts)) if r in ("cross-examination", POSITIVE)
    ]
    assert order == ["cross-examination", POSITIVE] * CHECK_ROUNDS + ["cross-examination"]
    assert POSITIVE not in rungs(simulate(plan_of(checks=False), 0.9, verdicts))


def test_what_breaks_one_subject_is_submitted_to_the_other_once():
    results = simulate(plan_of(), 0.9, lambda steps: {DEFENDED: HELD, BASE: CHECKED})
    (step,) = [step for step in results.steps if step.rung == "cross-examination"]
    assert ("rci", "from:standard/pgd-10") in ran(step) and ("standard", "from:rci/pgd-10") not in ran(step)
    sources = [c.submission.sources for c in step.cases if c.attack == "from:standard/pgd-10"]
    assert sources == [(ON_STANDARD[3],)]


def test_only_open_verdicts_meet_submissions_and_checks():
    asked = replace(CHECKED, checks=(ASKS,))
    results = simulate(plan_of(), 0.5, lambda steps: {DEFENDED: NO_GAIN, BASE: asked})
    late = [step for step in results.steps if step.rung in ("cross-examination", POSITIVE)]
    assert {label for step in late for label, _ in ran(step)} == {"standard"}


@pytest.mark.parametrize(("extras", "met"), [(None, True), (10**6, False)])
def test_where_all_rows_run_on_all_examples_settled_verdicts_meet_submissions_unless_attacks_are_named(
    extras, met
):
    whole = replace(with_rows(), start=1024, everything=True, ceilings=Ceilings(None, extras))
    final = {DEFENDED: NO_GAIN, BASE: BROKEN}
    results = simulate(whole, lambda c: 0.5 if c.subject == RCI else 0.4, lambda steps: final)
    assert ("cross-examination" in rungs(results)) == met
    assert set(results.sizes.values()) == {1024} and set(whole.cases) <= set(results.sizes)


def test_more_examples_take_all_that_a_verdict_rests_on_twice_as_far_and_submissions_anew():
    results = simulate(plan_of(), 0.9)
    widest = [step for step in results.steps if step.wider]
    assert [step.images for step in widest] == [512, 1024]
    first = results.steps.index(widest[0])
    before, at_512 = Results(results.steps[:first]), Results(results.steps[: first + 1])
    assert any(c.submission for c in before.sizes)
    assert not any(c.submission for c in at_512.sizes) and set(at_512.sizes.values()) == {512}
    assert rungs(results).count("cross-examination") == 3


def test_no_verdict_gets_more_examples_while_an_attack_did_not_fit():
    first = 256 * (2 + 10)  # fgsm and pgd-10
    plan = plan_of(*ON_STANDARD, ceilings=Ceilings(first + 10_000))
    assert [rung for rung in rungs(simulate(plan)) if rung not in ("cross-examination", POSITIVE)] == [
        "clean", "quick", "adaptive", SELF_TESTS,
    ]  # fmt: skip
    # A verdict that checks alone hold back never gets them.
    checked = simulate(plan_of(), 0.9, lambda steps: {BASE: CHECKED, DEFENDED: HELD})
    assert not any(step.wider for step in checked.steps)


def test_what_a_ceiling_left_out_is_what_an_open_verdict_needs_next_at_its_price():
    plan = plan_of(*ON_STANDARD, ceilings=Ceilings(256 * (2 + 10)))
    results = simulate(plan)
    need = needed(plan, results, BASE)
    assert ran(need) == [("standard", "pgd-100")] and need.gradients == 256 * 100
    without = next_step(replace(plan, ceilings=Ceilings()), results)
    assert ran(without) == ran(need)  # what the program would run
    settled_now = replace(results, verdicts={setting(BASE, plan): BROKEN})
    assert needed(plan, settled_now, BASE) is None


@pytest.mark.parametrize("left", [0.0, 0.06, 0.5, 0.9])
@pytest.mark.parametrize("verdict", [WIDE, ASKED, HELD, NO_GAIN_YET, judged(0.5, 0.7, (0.3, 0.6))])
def test_every_step_names_cases_batches_or_images_that_have_not_run(left, verdict):
    """Else an evaluation would never end."""
    plan = plan_of(*ON_STANDARD, *ON_RCI, ON_VICTIM, *KEPT, deferred=frozenset(KEPT))
    results = simulate(plan, left, lambda steps: {DEFENDED: verdict, VICTIMS: verdict})
    for i, step in enumerate(results.steps):
        before = Results(results.steps[:i])
        if step.batches:
            scored_before = [before.batches.get(c, (0, 0)) for c in step.cases]
            assert all(n < step.batches for n, size in scored_before if size == step.images)
        elif step.cases:
            assert all(before.sizes.get(c, 0) < step.images for c in step.cases)
        else:
            assert step.rung == SELF_TESTS and not before.tested
    assert len(results.steps) > 3


def test_a_defence_of_several_copies_of_an_input_may_cost_as_many_times_more():
    slow = case("pgd-10", replace(STANDARD, images=3 * STANDARD.k + 1))
    plan = plan_of(slow, ceilings=Ceilings(1000))
    assert verdict_fits(plan, Results(), comparison_of(slow), 3000)
    assert not verdict_fits(plan, Results(), comparison_of(slow), 3001)


def test_a_base_model_stays_open_while_its_defence_is():
    plan = plan_of()
    final = {setting(BASE, plan): BROKEN}
    assert Results(verdicts=final).settled(plan) == []
    nothing = Results(verdicts=final, rows={ON_STANDARD[3]: row(0.0)})
    assert nothing.settled(plan) == [BASE]
    assert Results(verdicts={**final, setting(DEFENDED, plan): NO_GAIN}).settled(plan) == [BASE, DEFENDED]


def with_rows(*cases, **more):
    cases = cases or ON_STANDARD + ON_RCI
    rows = frozenset(c for c in cases if c.attack in (*NAMED, "random-sign") and c.threat == WHOLE_BATCH)
    return plan_of(*cases, **{"rows": rows, "ceilings": Ceilings(0), **more})


def test_named_rows_are_paid_whatever_the_ceiling_and_victims_come_behind_them():
    plan = with_rows(*ON_STANDARD, *ON_RCI, ON_VICTIM)
    results = simulate(plan)
    assert rungs(results) == ["clean", "quick", "named rows", SELF_TESTS, MORE, "quick"]
    rows = results.steps[2]
    assert set(ran(rows)) | set(ran(results.steps[1])) == {
        (c.subject.label, c.attack) for c in plan.cases if c in plan.rows
    }
    assert rows.images == 256
    assert ran(results.steps[-1]) == [("rci", "transfer-pgd-20")]


def test_beside_named_attacks_everything_else_keeps_to_its_share():
    broken = {"transfer-pgd-20": 0.0}
    for extras in (0, 6_000, 20_000, 10**6):
        plan = with_rows(ceilings=Ceilings(None, extras), checks=False)
        results = simulate(plan, lambda c: broken.get(c.attack, 0.9))
        others = sum(
            cost
            for step in results.steps
            for c, cost in zip(step.cases, step.costs, strict=True)
            if step.batches or c not in plan.cases
        )
        assert others <= extras and bool(others) == (extras >= 6_000)
        assert all(results.sizes.get(c, 0) >= 256 for c in plan.rows)


def test_a_screen_asks_some_rungs_alone():
    plan = plan_of(rungs=(Rung.CLEAN, Rung.QUICK, Rung.ADAPTIVE, SELF_TESTS))
    order = rungs(simulate(plan, 0.9, lambda steps: {DEFENDED: ASKED, BASE: CHECKED}))
    assert list(dict.fromkeys(order)) == ["clean", "quick", "adaptive", SELF_TESTS]


def test_a_step_says_what_it_costs_and_why():
    step = replace(simulate(plan_of()).steps[1], reason="one cheap attack")
    assert str(step) == "one cheap attack: pgd-10, transfer-pgd-20 (7,680 gradient evaluations)"


def test_victims_meet_what_batches_were_broken_by_and_then_gradients_of_their_own():
    deep = case("pgd-10+loss=margin", threat=VICTIM)
    plan = plan_of(*ON_RCI, ON_VICTIM, deep, deferred=frozenset({deep}))
    held = {DEFENDED: HELD, VICTIMS: HELD}
    results = simulate(plan, lambda c: 0.5 if c.attack == "pgd-100" else 0.9, lambda steps: held)
    on_victims = [(s.rung, c.attack) for s in results.steps for c in s.cases if c.case.threat == VICTIM]
    assert ("cross-examination", "from:rci:N=190/pgd-100") in on_victims
    assert on_victims[-1] == (POSITIVE, "pgd-10+loss=margin")
    broken = simulate(plan, 0.0, lambda steps: {DEFENDED: NO_GAIN, VICTIMS: NO_GAIN_YET})
    assert deep not in broken.sizes  # only what would be positive pays for it


@pytest.mark.parametrize(("left", "asked"), [(0.0, True), (0.42, False)])
def test_random_batches_of_one_victim_are_asked_where_whole_batches_fall_alike(left, asked):
    whole = case("transfer-pgd-20")
    plan = plan_of(*ON_STANDARD, whole, ON_VICTIM)
    results = simulate(plan, lambda c: {ON_VICTIM: 0.0, whole: left}.get(c, 0.42))
    assert any(ON_VICTIM in step.cases for step in scored(results)) == asked
