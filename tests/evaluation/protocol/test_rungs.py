"""What an evaluation runs next, on made-up evidence: no network, no folder, no clock, nothing patched."""

import subprocess
import sys
from dataclasses import replace

import pytest

from attacks.presets import NAMED
from robustbench_coded.evaluation.planning.cases import ProbedSubject, planned_case
from robustbench_coded.evaluation.planning.comparisons import comparison_of
from robustbench_coded.evaluation.protocol.random_batches import CLEAN_BATCHES, UNSEEN
from robustbench_coded.evaluation.protocol.rungs import (
    CHECK_ROUNDS,
    MORE,
    POSITIVE,
    SELF_TESTS,
    lacking,
    next_step,
)
from robustbench_coded.evaluation.protocol.state import (
    Ceilings,
    EvaluationPlan,
    Evidence,
    OpenCheck,
    Outcome,
    SettingStatus,
    Step,
    settled,
    verdict_fits,
)
from robustbench_coded.judge.anytime import values_needed
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import CheckName, VerdictName

STANDARD = ProbedSubject(Subject("net", "standard", None, None), "standard", 128, False, False, False, 128)
RCI = ProbedSubject(Subject("net", "rci", 128, 190), "rci:N=190", 128, True, True, True, 190)
SIZES = (128, 256, 512, 1024)
PRICES = {"clean": 1, "random-sign": 1, "fgsm": 2, "pgd-10": 10, "transfer-pgd-20": 20, "pgd-100": 100}
VICTIM = ThreatModel("victim", "unknown")
ASKS = OpenCheck(CheckName.TWICE_THE_STEPS, False, ("pgd-200",))
OPEN = SettingStatus(could_fall=False)
CHECKED = SettingStatus(VerdictName.NOT_SETTLED, above_the_bar=True, could_fall=False)  # by checks alone
ASKED = CHECKED._replace(could_fall=True, checks=(ASKS,))
BROKEN = SettingStatus(VerdictName.BROKEN, final=True, could_fall=False)
NO_GAIN = SettingStatus(VerdictName.NO_GAIN, final=True, could_fall=False)


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
    judged = {comparison_of(c): (c.case.setting,) for c in attacks}
    return EvaluationPlan(cases, judged, SIZES, 256, images, **{"margin": 0.03, "classes": 10, **more})


def setting(comparison, plan):
    (key,) = plan.judged[comparison]
    return key


def simulate(plan, left=0.9, standings=None, most=60):
    """The evidence after an evaluation whose outcomes are made up.

    Args:
        left: the share of right answers that an attack leaves, or (case) -> share.
        standings: (steps so far) -> standing by comparison; all open without it.
    """
    evidence, share = Evidence(), left if callable(left) else lambda case: left
    while (step := next_step(plan, evidence)) is not None:
        steps = (*evidence.steps, step)
        assert len(steps) < most, [s.rung for s in steps]
        ran = Evidence(steps)
        told = {**dict.fromkeys(plan.judged, OPEN), **(standings or (lambda steps: {}))(steps)}
        found = {c: Outcome(1.0 if c.attack == "clean" else share(c)) for c in ran.sizes}
        evidence = replace(ran, outcomes=found, standings={setting(c, plan): s for c, s in told.items()})
    return evidence


def rungs(evidence):
    return [step.rung for step in evidence.steps]


def ran(step):
    return [(part.case.subject.label, part.case.attack) for part in step.cases]


def scored(evidence):
    """Random batches of attacks, step by step."""
    parts = [part for step in evidence.steps for part in step.random]
    return [part for part in parts if part.case.attack != "clean"]


def test_the_protocol_needs_no_torch():
    code = "import sys, robustbench_coded.evaluation.protocol.rungs; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_clean_inputs_come_first_then_one_cheap_attack_on_each_verdict_then_the_others_in_their_order():
    evidence = simulate(plan_of())
    clean, quick, *_ = evidence.steps
    assert [(part.case.attack, part.size) for part in clean.cases] == [("clean", 256)] * 2
    # Gradients of the base model serve any batch, and settle a verdict in random ones.
    assert ran(quick) == [("standard", "pgd-10"), ("rci", "transfer-pgd-20")]
    assert quick.images == 256 * (10 + 20) and "open verdict" in quick.reason
    later = [ran(step) for step in evidence.steps if step.rung == "adaptive"]
    assert later == [
        [("standard", "fgsm"), ("rci", "pgd-10")], [("standard", "pgd-100"), ("rci", "fgsm")],
        [("rci", "pgd-100")],
    ]  # fmt: skip


def test_the_order_depends_on_no_other_subject():
    alone = simulate(plan_of(*ON_RCI))
    orders = [
        [name for step in evidence.steps[:5] for label, name in ran(step) if label == "rci"]
        for evidence in (alone, simulate(plan_of(), lambda c: 0.0 if c.attack == "pgd-100" else 0.9))
    ]
    assert orders[0] == orders[1]


@pytest.mark.parametrize(
    ("names", "subject", "first"),
    [
        (("pgd-100", "pgd-7", "fgsm"), STANDARD, "fgsm pgd-7"),  # the cheapest of several steps
        (("pgd-7", "transfer-pgd-40"), RCI, "transfer-pgd-40"),
        (("pgd-10", "relaxed-pgd-40"), replace(STANDARD, hides_gradient=True), "relaxed-pgd-40"),
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
    evidence = simulate(plan_of(*(case(name, hidden) for name in names)))
    met = [name for step in evidence.steps for _, name in ran(step) if step.rung in ("quick", "adaptive")]
    assert met == ["relaxed-pgd-20+momentum=1", "relaxed-eot4-apgd-ce-50", "pgd-10", "apgd-mt-20"]


def test_a_break_is_proven_in_as_many_random_batches_as_it_takes_before_anything_else():
    def standings(steps):
        return {DEFENDED: NO_GAIN, BASE: BROKEN} if any(step.random for step in steps) else {}

    left = {"transfer-pgd-20": 0.0, "fgsm": 0.5}
    evidence = simulate(plan_of(), lambda c: left.get(c.attack, 0.9), standings)
    assert rungs(evidence) == ["clean", "quick", "confirm", SELF_TESTS, MORE]  # clean inputs, in the end
    (batches,) = evidence.steps[2].random
    assert batches.case.attack == "transfer-pgd-20" and batches.size == 256
    assert batches.batches == values_needed(UNSEEN, 0.03, plan_of().tail(256))
    assert batches.images == batches.batches * (190 // 3)


def test_no_random_batches_are_scored_for_what_so_few_images_cannot_show():
    """None right of 64 images leaves up to 5.6% of others; a break of ten classes may leave 15%."""
    few = replace(plan_of(), sizes=(64,), start=64, classes=1000)
    assert scored(simulate(few, 0.0)) == []
    assert "confirm" in rungs(simulate(replace(few, classes=10), 0.0))


def test_the_first_attack_is_paid_whatever_it_costs_and_so_are_its_first_random_batches():
    plan = plan_of(ceilings=Ceilings(0))
    assert rungs(simulate(plan, 0.0)) == ["clean", "quick", "confirm", SELF_TESTS, MORE]
    assert rungs(simulate(plan, 0.5)) == ["clean", "quick", SELF_TESTS, MORE]


def test_what_has_no_gain_is_attacked_no_further_but_its_base_is():
    def standings(steps):
        return {DEFENDED: SettingStatus(VerdictName.NO_GAIN, could_fall=False)}

    steps = [step for step in simulate(plan_of(), 0.5, standings).steps if step.rung == "adaptive"]
    assert steps and {label for step in steps for label, _ in ran(step)} == {"standard"}


def test_what_random_batches_will_settle_once_its_base_is_attacked_waits_for_that():
    """15% of a defence whose base keeps 20%: no gain, unless more attacks break the base."""
    share = {"standard": 0.2, "rci": 0.15}
    evidence = simulate(plan_of(), lambda c: share[c.subject.label])
    order = rungs(evidence)
    first = order.index("confirm")
    assert order[:first] == ["clean", "quick", "adaptive", "adaptive"]
    assert {label for step in evidence.steps[2:first] for label, _ in ran(step)} == {"standard"}
    (batches,) = evidence.steps[first].random
    assert batches.batches == values_needed(0.15 + UNSEEN, 0.23, plan_of().tail(256))


def test_random_batches_are_doubled_once_while_the_verdict_is_open():
    evidence = simulate(plan_of(), lambda c: 0.0 if c.attack == "transfer-pgd-20" else 0.9)
    first = values_needed(UNSEEN, 0.03, plan_of().tail(256))
    before = [part for step in evidence.steps for part in step.random if not step.reached]
    at_256 = [part for part in before if part.size == 256 and part.case.attack != "clean"]
    assert [part.batches for part in at_256] == [first, 2 * first]
    assert at_256[1].images == first * (190 // 3)  # those before are not scored again


def test_next_to_nothing_is_proven_where_no_attack_is_left_that_shows_that_nothing_is_gained():
    left = {"transfer-pgd-20": 0.06}

    def standings(steps):
        proven = any(step.random for step in steps)
        return {DEFENDED: SettingStatus(VerdictName.BROKEN, could_fall=False)} if proven else {}

    # Broken means at most 5% above a tenth; no gain, 3 points above the base.
    share = {**left, "pgd-10": 0.01, "pgd-100": 0.01}
    evidence = simulate(
        plan_of(), lambda c: (share if c.subject == STANDARD else left).get(c.attack, 0.9), standings
    )
    order = rungs(evidence)
    assert order.count("confirm") == 1 and order.index("confirm") > order.index("adaptive")
    assert "pgd-100" in [name for step in evidence.steps[: order.index("confirm")] for _, name in ran(step)]
    (batches,) = evidence.steps[order.index("confirm")].random
    assert batches.batches == values_needed(0.06 + UNSEEN, 0.15, plan_of().tail(256))


@pytest.mark.parametrize("claimed", [0.5, 0.105])
def test_a_claim_is_refuted_in_as_many_random_batches_as_it_takes_and_as_clean_inputs_get(claimed):
    plan = plan_of(claimed={DEFENDED: claimed})
    share = lambda c: 0.06 if c.subject == RCI else 0.9  # noqa: E731
    batches = scored(simulate(plan, share))[0]
    needed = values_needed(0.06 + UNSEEN, claimed, plan.tail(256))
    assert batches.batches == max(needed, CLEAN_BATCHES)
    assert (needed > CLEAN_BATCHES) == (claimed == 0.105)  # either number decides


KEPT = tuple(case("switch-20", subject) for subject in (STANDARD, RCI))


def test_an_open_verdict_meets_everything_before_it_is_positive():
    plan = plan_of(*ON_STANDARD, *ON_RCI, *KEPT, deferred=frozenset(KEPT), relus=lambda checkpoint: 100)
    evidence = simulate(plan, 0.9, lambda steps: {DEFENDED: ASKED, BASE: CHECKED})
    order = list(dict.fromkeys(rungs(evidence)))
    assert order == ["clean", "quick", "adaptive", SELF_TESTS, "cross-examination", POSITIVE, MORE]
    special, asked, crossed = [ran(step) for step in evidence.steps if step.rung == POSITIVE]
    assert special == [("standard", "switch-20"), ("rci", "switch-20")]  # the base model meets the same
    assert asked == [("rci", "pgd-200")] and crossed == [("standard", "crossover-160")]


def test_only_what_would_be_positive_pays_for_special_attacks():
    plan = plan_of(*ON_STANDARD, *ON_RCI, *KEPT, deferred=frozenset(KEPT))
    for standing in (SettingStatus(VerdictName.BROKEN), SettingStatus(VerdictName.NO_GAIN)):
        both = {DEFENDED: standing._replace(could_fall=False), BASE: BROKEN}
        assert POSITIVE not in rungs(simulate(plan, 0.9, lambda steps, both=both: both))
    # More examples come first, and where there are none it is asked all the same.
    evidence = simulate(plan, 0.9)
    order = rungs(evidence)
    assert order.index(MORE) < order.index(POSITIVE)
    assert {part.size for step in evidence.steps if step.rung == POSITIVE for part in step.cases} == {1024}


@pytest.mark.parametrize("relus", [0, 200_000 // 256 + 1])
def test_crossover_is_for_small_networks_on_few_images(relus):
    plan = plan_of(relus=lambda checkpoint: relus)
    assert POSITIVE not in rungs(simulate(plan, 0.9, lambda steps: {BASE: CHECKED, DEFENDED: NO_GAIN}))


def test_every_attack_near_the_strongest_is_scored_in_random_batches_where_few_batches_leave_a_verdict_open():
    left = {"pgd-10": 0.82, "pgd-100": 0.8, "transfer-pgd-20": 0.87}
    share = lambda c: 0.6 if c.subject == STANDARD else left.get(c.attack, 0.9)  # noqa: E731
    evidence = simulate(plan_of(), share, lambda steps: {DEFENDED: OPEN, BASE: CHECKED})
    first = next(step for step in evidence.steps if step.rung == MORE)
    assert {part.case.attack for part in first.random} == {"pgd-10", "pgd-100"}
    tail = plan_of().tail(256) / 4  # of two attacks, and half of the error of each
    (count,) = {part.batches for part in first.random}
    # 80% against 60% and the margin of 3 points
    assert count == 2 * values_needed(0.2, 0.37, tail) > 20
    # Not where checks hold it back, nor where what is left is below the bar, nor in a sequence.
    assert scored(simulate(plan_of(), share, lambda steps: {DEFENDED: CHECKED, BASE: CHECKED})) == []
    assert scored(simulate(plan_of(random_batches=False), share)) == []
    low = simulate(plan_of(), lambda c: 0.14, lambda steps: {DEFENDED: OPEN, BASE: CHECKED})
    assert all(part.case.attack != "pgd-100" for part in scored(low))


def test_checks_ask_so_many_times_and_submissions_come_again_behind_each():
    def standings(steps):
        attacks = sum(step.rung == POSITIVE for step in steps)
        check = ASKS._replace(attacks=(f"pgd-{201 + attacks}",))
        return {DEFENDED: ASKED._replace(checks=(check,)), BASE: BROKEN}

    def stronger(case):  # the longer an attack, so that each of a check has something new to submit
        return (
            0.9 - 0.001 * int("".join(filter(str.isdigit, case.attack)) or 0) if not case.submission else 0.9
        )

    evidence = simulate(plan_of(), stronger, standings)
    order = [rung for rung in rungs(evidence) if rung in ("cross-examination", POSITIVE)]
    assert order == ["cross-examination", POSITIVE] * CHECK_ROUNDS + ["cross-examination"]
    assert POSITIVE not in rungs(simulate(plan_of(checks=False), 0.9, standings))


def test_what_breaks_one_subject_is_submitted_to_the_other_once():
    evidence = simulate(plan_of(), 0.9, lambda steps: {DEFENDED: CHECKED, BASE: CHECKED})
    (step,) = [step for step in evidence.steps if step.rung == "cross-examination"]
    assert ("rci", "from:standard/pgd-10") in ran(step) and ("standard", "from:rci/pgd-10") not in ran(step)
    sources = [
        part.case.submission.sources for part in step.cases if part.case.attack == "from:standard/pgd-10"
    ]
    assert sources == [(ON_STANDARD[3],)]


def test_only_open_verdicts_meet_submissions_and_checks():
    def standings(steps):
        return {DEFENDED: NO_GAIN._replace(checks=(ASKS,), could_fall=True), BASE: ASKED}

    evidence = simulate(plan_of(), 0.5, standings)
    late = [
        label
        for step in evidence.steps
        if step.rung in ("cross-examination", POSITIVE)
        for label, _ in ran(step)
    ]
    assert set(late) == {"standard"}


@pytest.mark.parametrize(("extras", "met"), [(None, True), (10**6, False)])
def test_where_all_rows_run_on_all_examples_settled_verdicts_meet_submissions_unless_attacks_are_named(
    extras, met
):
    whole = replace(with_rows(), start=1024, everything=True, ceilings=Ceilings(None, extras))
    final = {DEFENDED: NO_GAIN, BASE: BROKEN}
    evidence = simulate(whole, lambda c: 0.5 if c.subject == RCI else 0.4, lambda steps: final)
    assert ("cross-examination" in rungs(evidence)) == met
    assert set(evidence.sizes.values()) == {1024} and set(whole.cases) <= set(evidence.sizes)


def test_more_examples_take_all_that_a_verdict_rests_on_twice_as_far_and_submissions_anew():
    evidence = simulate(plan_of(), 0.9)
    wider = [step for step in evidence.steps if step.reached]
    assert [dict(step.reached) for step in wider] == [{BASE: n, DEFENDED: n} for n in (512, 1024)]
    before = Evidence(evidence.steps[: evidence.steps.index(wider[0])])
    at_512 = Evidence(evidence.steps[: evidence.steps.index(wider[0]) + 1])
    assert any(c.submission for c in before.sizes)
    assert not any(c.submission for c in at_512.sizes) and set(at_512.sizes.values()) == {512}
    assert rungs(evidence).count("cross-examination") == 3


def test_no_verdict_gets_more_examples_while_an_attack_did_not_fit():
    first = 256 * (2 + 10)  # fgsm and pgd-10
    plan = plan_of(*ON_STANDARD, ceilings=Ceilings(first + 10_000))
    assert [rung for rung in rungs(simulate(plan)) if rung != "cross-examination"] == [
        "clean", "quick", "adaptive", SELF_TESTS,
    ]  # fmt: skip
    # A verdict that checks alone hold back never gets them.
    checked = simulate(plan_of(), 0.9, lambda steps: {BASE: CHECKED, DEFENDED: CHECKED})
    assert not any(step.reached for step in checked.steps)


def test_what_a_ceiling_left_out_has_a_price():
    plan = plan_of(*ON_STANDARD, ceilings=Ceilings(256 * (2 + 10)))
    evidence = simulate(plan)
    more = sum(images(c, 512) - images(c, 256) for c in ON_STANDARD if c.attack != "random-sign")
    submitted = [c for c in evidence.sizes if c.submission]
    assert lacking(plan, evidence) >= 256 * 100 + more and not submitted
    settled_now = replace(evidence, standings={setting(BASE, plan): BROKEN})
    assert lacking(plan, settled_now) == 0


def test_a_defence_of_several_copies_of_an_input_may_cost_as_many_times_more():
    slow = case("pgd-10", replace(STANDARD, images=3 * STANDARD.k + 1))
    plan = plan_of(slow, ceilings=Ceilings(1000))
    assert verdict_fits(plan, Evidence(), comparison_of(slow), 3000)
    assert not verdict_fits(plan, Evidence(), comparison_of(slow), 3001)


def test_a_base_model_stays_open_while_its_defence_is():
    plan = plan_of()
    final = {setting(BASE, plan): BROKEN}
    assert settled(plan, Evidence(standings=final)) == []
    nothing = Evidence(standings=final, outcomes={ON_STANDARD[3]: Outcome(0.0)})
    assert settled(plan, nothing) == [BASE]
    assert settled(plan, Evidence(standings={**final, setting(DEFENDED, plan): NO_GAIN})) == [BASE, DEFENDED]


def with_rows(*cases, **more):
    cases = cases or ON_STANDARD + ON_RCI
    rows = frozenset(c for c in cases if c.attack in (*NAMED, "random-sign") and c.threat == WHOLE_BATCH)
    return plan_of(*cases, **{"rows": rows, "ceilings": Ceilings(0), **more})


def test_named_rows_are_paid_whatever_the_ceiling_and_victims_come_behind_them():
    plan = with_rows(*ON_STANDARD, *ON_RCI, ON_VICTIM)
    evidence = simulate(plan)
    assert rungs(evidence) == ["clean", "quick", "named rows", SELF_TESTS, MORE, "quick"]
    rows = evidence.steps[2]
    assert set(ran(rows)) | set(ran(evidence.steps[1])) == {
        (c.subject.label, c.attack) for c in plan.cases if c in plan.rows
    }
    assert {part.size for part in rows.cases} == {256}
    assert ran(evidence.steps[-1]) == [("rci", "transfer-pgd-20")]


def test_a_verdict_that_rows_open_again_is_asked_for_again():
    """They measure how batches correlate, which may widen an interval."""
    positive = SettingStatus(VerdictName.NO_FAILURE_FOUND, above_the_bar=True, could_fall=False)

    def standings(steps):
        widened = any(step.random for step in steps) and not any(step.reached for step in steps)
        return {BASE: BROKEN, DEFENDED: OPEN if widened else positive}

    evidence = simulate(with_rows(ceilings=Ceilings()), 0.9, standings)
    assert any(step.reached for step in evidence.steps)


def test_beside_named_attacks_everything_else_keeps_to_its_share():
    broken = {"transfer-pgd-20": 0.0}
    for extras in (0, 6_000, 20_000, 10**6):
        plan = with_rows(ceilings=Ceilings(None, extras), checks=False)
        evidence = simulate(plan, lambda c: broken.get(c.attack, 0.9))
        named = set(plan.cases)
        others = [p for s in evidence.steps for p in s.parts if p in s.random or p.case not in named]
        assert sum(part.images for part in others) <= extras
        assert bool(others) == (extras >= 6_000)
        assert all(evidence.sizes.get(c, 0) >= 256 for c in plan.rows)


def test_a_screen_asks_some_rungs_alone():
    plan = plan_of(rungs=("clean", "quick", "adaptive", SELF_TESTS))
    order = rungs(simulate(plan, 0.9, lambda steps: {DEFENDED: ASKED, BASE: ASKED}))
    assert list(dict.fromkeys(order)) == ["clean", "quick", "adaptive", SELF_TESTS]


def test_a_step_says_what_it_costs_and_why():
    step = Step("quick", "one cheap attack", tuple(simulate(plan_of()).steps[1].cases))
    assert str(step) == "pgd-10, transfer-pgd-20: quick, one cheap attack (7,680 gradient evaluations)"


def test_victims_meet_what_batches_were_broken_by_and_then_gradients_of_their_own():
    deep = case("pgd-10+loss=margin", threat=VICTIM)
    plan = plan_of(*ON_RCI, ON_VICTIM, deep, deferred=frozenset({deep}))
    positive = SettingStatus(VerdictName.NOT_SETTLED, above_the_bar=True, could_fall=False)
    settings = {DEFENDED: positive, VICTIMS: positive}
    evidence = simulate(plan, lambda c: 0.5 if c.attack == "pgd-100" else 0.9, lambda steps: settings)
    on_victims = [(s.rung, a) for s in evidence.steps for _, a in ran(s) if s.cases[0].case.threat == VICTIM]
    assert ("cross-examination", "from:rci:N=190/pgd-100") in on_victims
    assert on_victims[-1] == (POSITIVE, "pgd-10+loss=margin")
    still_open = SettingStatus(VerdictName.NO_GAIN, could_fall=False)
    broken = simulate(plan, 0.0, lambda steps: {DEFENDED: BROKEN, VICTIMS: still_open})
    assert deep not in broken.sizes  # only what would be positive pays for it


@pytest.mark.parametrize(("left", "asked"), [(0.0, True), (0.42, False)])
def test_random_batches_of_one_victim_are_asked_where_whole_batches_fall_alike(left, asked):
    whole = case("transfer-pgd-20")
    plan = plan_of(*ON_STANDARD, whole, ON_VICTIM)
    evidence = simulate(plan, lambda c: {ON_VICTIM: 0.0, whole: left}.get(c, 0.42))
    assert any(part.case == ON_VICTIM for part in scored(evidence)) == asked
