"""What an evaluation runs next, on made-up evidence: no network, no folder, no clock, nothing patched."""

import subprocess
import sys
from dataclasses import replace

import pytest
from robustbench_coded.evaluation.session.policies import (
    MORE_EXAMPLES,
    SELF_TESTS,
    lacking,
    next_step,
    table_sizes,
)
from robustbench_coded.evaluation.session.random_batches import UNSEEN
from robustbench_coded.evaluation.session.schedule import (
    Ceilings,
    EvaluationPlan,
    Evidence,
    Sized,
    Standing,
    Step,
    settled,
)

from robustbench_coded.evaluation.planning.cases import ProbedSubject, Submission, Unit, planned_case
from robustbench_coded.evaluation.planning.comparisons import comparison_of
from robustbench_coded.judge.anytime import values_needed
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import VerdictName

STANDARD = ProbedSubject(Subject("net", "standard", None, None), "standard", 128, False, False, False, 128)
RCI = ProbedSubject(Subject("net", "rci", 128, 190), "rci:N=190", 128, True, True, True, 190)
SIZES = (128, 256, 512, 1024)
PRICES = {"clean": 1, "random-sign": 1, "fgsm": 2, "pgd-10": 10, "transfer-pgd-20": 20, "pgd-100": 100}
VICTIM = ThreatModel("victim", "unknown")
HOLDS = "what holds"
OPEN = Standing()
CHECKED = Standing(VerdictName.NOT_SETTLED, above_the_bar=True)  # by checks alone
BROKEN = Standing(VerdictName.BROKEN, final=True)
NO_GAIN = Standing(VerdictName.NO_GAIN, final=True)


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
UNLIMITED = Ceilings(None, 0, None)  # as until every verdict is settled


def plan_of(*cases, **more):
    """Without a table, unless asked for; cases of every comparison are judged by its setting."""
    cases = cases or ON_STANDARD + ON_RCI
    attacks = [c for c in cases if c.attack not in ("clean", "random-sign")]
    judged = {comparison_of(c): (c.case.setting,) for c in attacks}
    options = {"ceilings": UNLIMITED, "table": frozenset(cases), **more}
    return EvaluationPlan(cases, judged, SIZES, 256, images, **options)


def setting(comparison, plan):
    (key,) = plan.judged[comparison]
    return key


def simulate(plan, left=0.9, standings=None, submissions=(), checks=(), most=60):
    """The steps of an evaluation whose outcomes are made up.

    Args:
        left: the share of right answers that an attack leaves, or (case) -> share.
        standings: (steps so far) -> standing by comparison; all open without it.
    """
    evidence, share = Evidence(), left if callable(left) else lambda case: left
    offered = submissions if callable(submissions) else lambda steps: submissions
    while (step := next_step(plan, evidence)) is not None:
        steps = (*evidence.steps, step)
        assert len(steps) < most, [s.policy for s in steps]
        ran = Evidence(steps)
        told = (standings or (lambda steps: {}))(steps)
        evidence = replace(
            ran,
            shares={c: 1.0 if c.attack == "clean" else share(c) for c in ran.sizes},
            standings={setting(c, plan): standing for c, standing in told.items()},
            submissions=tuple(c for c in offered(steps) if c not in ran.sizes),
            checks=tuple(c for c in checks if c not in ran.sizes),
        )
    return evidence


def policies(evidence):
    return [step.policy for step in evidence.steps]


def ran(step):
    return [(part.case.subject.label, part.case.attack) for part in step.cases]


def submitted(name="from:standard/fgsm", subject=RCI, source=ON_STANDARD[2]):
    """Inputs that were made for another subject."""
    return case(name, subject, submission=Submission(((Unit(source, ((0,),), (), 1, "a"),),)))


def test_the_scheduler_needs_no_torch():
    code = "import sys, robustbench_coded.evaluation.session.policies; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_clean_inputs_come_first_then_one_attack_on_each_open_verdict_by_damage_for_its_cost():
    evidence = simulate(plan_of())
    clean, first, second = evidence.steps[:3]
    last = [step for step in evidence.steps if step.policy == "attack"][-1]
    assert [(part.case.attack, part.size) for part in clean.cases] == [("clean", 256)] * 2
    # Gradients of the base model serve any batch, and settle a verdict in random ones.
    assert ran(first) == [("standard", "pgd-10"), ("rci", "transfer-pgd-20")]
    assert ran(second) == [("standard", "pgd-100"), ("rci", "pgd-10")]
    assert first.images == 256 * (10 + 20) and "verdict is open" in first.reason
    # More steps find what one finds.
    assert ran(last) == [("rci", "fgsm")]


def test_a_break_is_proven_in_as_many_random_batches_as_it_takes_and_only_clean_ones_follow():
    def standings(steps):
        proven = any(step.random for step in steps)
        return {DEFENDED: NO_GAIN, BASE: BROKEN} if proven else {}

    left = {"transfer-pgd-20": 0.0, "fgsm": 0.5}
    evidence = simulate(plan_of(), lambda c: left.get(c.attack, 0.9), standings)
    assert policies(evidence) == ["clean", "attack", "break", SELF_TESTS, "clean batches"]
    (batches,) = evidence.steps[-3].random
    assert batches.case.attack == "transfer-pgd-20" and batches.size == 256
    assert batches.batches == values_needed(UNSEEN, 0.03, plan_of().tail(256))
    assert batches.images == batches.batches * (190 // 3)


def test_no_random_batches_are_scored_for_what_so_few_images_cannot_show():
    """None right of 64 images leaves up to 5.6% of others; a break of ten classes may leave 15%."""
    few = replace(plan_of(), sizes=(64,), start=64, classes=1000)
    evidence = simulate(few, 0.0)
    assert {part.case.attack for step in evidence.steps for part in step.random} <= {"clean"}
    scored = simulate(replace(few, classes=10), 0.0)
    assert "broken" in policies(scored) and "break" not in policies(scored)


def test_a_break_is_always_paid_and_further_attacks_are_not():
    plan = plan_of(ceilings=Ceilings(0, 0, None))
    broken = simulate(plan, 0.0)
    assert policies(broken)[:3] == ["clean", "attack", "break"]
    # The first attack on each verdict, and the first random batches: no more of either.
    assert policies(broken)[3:] == [SELF_TESTS, "clean batches"]
    assert policies(simulate(plan, 0.5)) == ["clean", "attack", SELF_TESTS, "clean batches"]


def test_what_has_no_gain_is_attacked_no_further_but_its_base_is():
    def standings(steps):
        return {DEFENDED: Standing(VerdictName.NO_GAIN)}

    after_first = [step for step in simulate(plan_of(), 0.5, standings).steps if step.policy == "attack"][1:]
    assert {label for step in after_first for label, _ in ran(step)} == {"standard"}


def test_random_batches_are_doubled_while_the_verdict_is_open():
    evidence = simulate(plan_of(), lambda c: 0.0 if c.attack == "transfer-pgd-20" else 0.9)
    counts = [part.batches for step in evidence.steps for part in step.random if step.policy == "break"]
    first = values_needed(UNSEEN, 0.03, plan_of().tail(256))
    assert counts[:3] == [first, 2 * first, 600]  # as many as there may be
    costs = [part.images for step in evidence.steps for part in step.random]
    assert costs[1] == first * (190 // 3)  # those before are not scored again


def test_next_to_nothing_is_proven_where_no_attack_shows_that_nothing_is_gained():
    left = {"transfer-pgd-20": 0.06}

    def standings(steps):
        proven = any(step.policy == "broken" for step in steps)
        return {DEFENDED: Standing(VerdictName.BROKEN)} if proven else {}

    plan = plan_of(classes=10)  # broken means at most 5% above a tenth; no gain, 3 points above the base
    share = {**left, "pgd-10": 0.01, "pgd-100": 0.01}
    evidence = simulate(
        plan, lambda c: (share if c.subject == STANDARD else left).get(c.attack, 0.9), standings
    )
    order = policies(evidence)
    assert order.index("broken") == order.index(MORE_EXAMPLES) - 1 > order.index("attack")
    assert order.count("broken") == 1 and "break" not in order and "random batches" not in order
    (batches,) = evidence.steps[order.index("broken")].random
    assert batches.batches == values_needed(0.06 + UNSEEN, 0.15, plan.tail(256))


def test_an_open_verdict_meets_attacks_submissions_checks_and_crossover_before_more_examples():
    asked, twice = case("pgd-200"), case("pgd-20", STANDARD)
    plan = plan_of(relus=lambda checkpoint: 100)
    standings = {DEFENDED: OPEN, BASE: CHECKED}
    evidence = simulate(plan, 0.9, lambda steps: standings, [submitted()], [asked, twice])
    order = list(dict.fromkeys(policies(evidence)))
    before = ["clean", "attack", SELF_TESTS, "submissions", "checks", "recombine"]
    assert order == [*before, MORE_EXAMPLES, "clean batches"]
    (recombined,) = next(step for step in evidence.steps if step.policy == "recombine").cases
    assert (recombined.case.attack, recombined.case.subject) == ("crossover-160", STANDARD)


@pytest.mark.parametrize("relus", [0, 200_000 // 256 + 1])
def test_crossover_is_for_small_networks_on_few_images(relus):
    plan = plan_of(relus=lambda checkpoint: relus)
    assert "recombine" not in policies(simulate(plan, 0.9, lambda steps: {BASE: CHECKED}))


def test_every_attack_near_the_strongest_is_scored_in_random_batches_where_few_batches_hold_praise_back():
    left = {"pgd-10": 0.82, "pgd-100": 0.8, "transfer-pgd-20": 0.87}
    share = lambda c: 0.1 if c.subject == STANDARD else left.get(c.attack, 0.9)  # noqa: E731
    evidence = simulate(plan_of(), share, lambda steps: {DEFENDED: OPEN, BASE: CHECKED})
    first = next(step for step in evidence.steps if step.policy == HOLDS)
    assert {part.case.attack for part in first.random} == {"pgd-10", "pgd-100"}
    tail = plan_of().tail(256) / 2
    (count,) = {part.batches for part in first.random}
    assert count == max(2 * values_needed(0.1, 0.435, tail), 20)  # 80% against 13%, as a gain from -1 to 1
    # Not where checks hold it back, nor where what is left is below the bar.
    checked = simulate(plan_of(), share, lambda steps: {DEFENDED: CHECKED, BASE: CHECKED})
    assert HOLDS not in policies(checked)
    low = simulate(plan_of(), lambda c: 0.1, lambda steps: {DEFENDED: OPEN, BASE: CHECKED})
    assert HOLDS not in policies(low)


def test_checks_ask_thrice_and_submissions_come_again_behind_them():
    checks = [case(f"pgd-{steps}") for steps in (21, 22, 23, 24)]
    offered = [submitted(f"from:standard/pgd-{i}") for i in range(5)]

    def one_at_a_time(plan):
        evidence = Evidence()
        while (step := next_step(plan, evidence)) is not None and step.policy != MORE_EXAMPLES:
            before = Evidence((*evidence.steps, step))
            evidence = replace(
                before,
                shares=dict.fromkeys(before.sizes, 0.9),
                submissions=tuple(c for c in offered if c not in before.sizes)[:1],
                checks=tuple(c for c in checks if c not in before.sizes)[:1],
            )
        return [step.policy for step in evidence.steps if step.policy in ("submissions", "checks")]

    assert one_at_a_time(plan_of()) == ["submissions", "checks"] * 3 + ["submissions"]
    assert one_at_a_time(plan_of(checks=False)) == ["submissions"]


def test_only_open_verdicts_meet_submissions_and_checks():
    def standings(steps):
        return {DEFENDED: NO_GAIN, BASE: OPEN}

    asked = [case("pgd-200"), case("pgd-20", STANDARD)]
    evidence = simulate(plan_of(), 0.5, standings, [submitted()], asked)
    assert "submissions" not in policies(evidence)
    checks = [part.case for step in evidence.steps if step.policy == "checks" for part in step.cases]
    assert checks == asked[1:]


@pytest.mark.parametrize(("extras", "met"), [(None, True), (10**6, False)])
def test_where_all_rows_run_on_all_examples_settled_verdicts_meet_submissions_unless_attacks_are_named(
    extras, met
):
    whole = replace(with_table(), start=1024, table_first=True, ceilings=Ceilings(None, None, extras))
    final = {DEFENDED: NO_GAIN, BASE: BROKEN}
    assert ("submissions" in policies(simulate(whole, 0.5, lambda steps: final, [submitted()]))) == met


def test_more_examples_take_all_that_a_verdict_rests_on_twice_as_far_and_submissions_anew():
    evidence = simulate(plan_of(), 0.9, None, [submitted()])
    wider = [step for step in evidence.steps if step.policy == MORE_EXAMPLES]
    assert [dict(step.reached) for step in wider] == [{BASE: n, DEFENDED: n} for n in (512, 1024)]
    before = Evidence(evidence.steps[: evidence.steps.index(wider[0])])
    at_512 = Evidence(evidence.steps[: evidence.steps.index(wider[0]) + 1])
    assert {c for c in before.sizes if c.submission} == {submitted()}
    assert not any(c.submission for c in at_512.sizes) and set(at_512.sizes.values()) == {512}
    assert policies(evidence).count("submissions") == 3


def test_no_verdict_gets_more_examples_while_an_attack_did_not_fit():
    first = 256 * (2 + 10)  # fgsm and pgd-10
    plan = plan_of(*ON_STANDARD, ceilings=Ceilings(first + 10_000, 0, None))
    assert policies(simulate(plan)) == ["clean", "attack", "attack", SELF_TESTS]
    # Beyond one attack, a verdict by checks alone never gets them.
    assert MORE_EXAMPLES not in policies(
        simulate(plan_of(), 0.9, lambda steps: {BASE: CHECKED, DEFENDED: CHECKED})
    )


def test_what_a_ceiling_left_out_has_a_price():
    ceiling = 256 * (2 + 10)
    plan = plan_of(*ON_STANDARD, ceilings=Ceilings(ceiling, 0, None))
    evidence = simulate(plan)
    more = sum(images(c, 512) - images(c, 256) for c in ON_STANDARD if c.attack != "random-sign")
    assert lacking(plan, evidence) == 256 * 100 + more
    settled_now = replace(evidence, standings={setting(BASE, plan): BROKEN})
    assert lacking(plan, settled_now) == 0


def test_a_base_model_stays_open_while_its_defence_is():
    plan = plan_of()
    final = {setting(BASE, plan): BROKEN}
    assert settled(plan, Evidence(standings=final)) == []
    nothing = Evidence(standings=final, shares={ON_STANDARD[3]: 0.0})
    assert settled(plan, nothing) == [BASE]
    assert settled(plan, Evidence(standings={**final, setting(DEFENDED, plan): NO_GAIN})) == [BASE, DEFENDED]


def with_table(*cases, table=100_000, paper=("clean", "random-sign", "fgsm", "pgd-10"), **more):
    cases = cases or ON_STANDARD + ON_RCI
    first = frozenset(c for c in cases if c.attack in paper and c.threat == WHOLE_BATCH)
    return plan_of(*cases, first_rows=first, ceilings=Ceilings(0, table, None), **more)


def test_rows_that_every_table_has_are_paid_whatever_the_ceiling_and_victims_come_behind_them():
    plan = with_table(*ON_STANDARD, *ON_RCI, ON_VICTIM, table=1)
    evidence = simulate(plan)
    after = ["first rows", "attack of victims", "clean batches"]
    assert policies(evidence) == ["clean", "attack", SELF_TESTS, *after]
    first = evidence.steps[3]
    assert ran(first) == [
        (label, name)
        for label, name in (*[("standard", n) for n in PRICES], *[("rci", n) for n in PRICES])
        if name in ("random-sign", "fgsm", "pgd-10") and (label, name) not in ran(evidence.steps[1])
    ]
    assert {part.size for part in first.cases} == {256} and first.for_table


def test_a_verdict_that_the_table_opens_again_is_asked_for_again():
    """Its rows measure how batches correlate, which may widen an interval."""
    praised = Standing(VerdictName.NO_FAILURE_FOUND, above_the_bar=True)

    def standings(steps):
        widened = any(step.policy == "table" for step in steps) and not steps[-1].reached
        return {BASE: BROKEN, DEFENDED: OPEN if widened else praised}

    plan = replace(with_table(*ON_STANDARD, *ON_RCI), ceilings=Ceilings(10**6, 10**5, None))
    names = policies(simulate(plan, 0.9, standings))
    assert MORE_EXAMPLES in names[names.index("table") :]


@pytest.mark.parametrize("ceiling", [0, 40_000, 60_000, 10**5, 10**6, 10**9])
def test_a_table_costs_what_it_may_and_no_row_goes_further_than_clean_inputs(ceiling):
    plan = with_table(*ON_STANDARD, table=max(ceiling, 1))
    sizes = table_sizes(plan, Evidence())
    always = [c for c in ON_STANDARD if c in plan.first_rows]
    spent = sum(images(c, size) for c, size in sizes.items())
    assert set(always) <= set(sizes) and all(sizes[c] >= 256 for c in always)
    assert spent <= max(ceiling, sum(images(c, 256) for c in always))
    assert all(size <= sizes[ON_STANDARD[0]] for size in sizes.values())
    # The dearer, the fewer examples; the dearest may have a batch, or none.
    by_price = [sizes.get(c, 0) for c in sorted(ON_STANDARD, key=lambda c: PRICES[c.attack])]
    assert by_price == sorted(by_price, reverse=True)
    assert (set(sizes.values()) == {1024} and len(sizes) == 5) == (ceiling >= 10**6)
    if ceiling == 40_000:  # 256 * 114 for all rows: only the cheaper ones can grow
        assert sizes[ON_STANDARD[4]] == 256 < sizes[ON_STANDARD[3]]


def test_clean_inputs_go_as_far_as_any_row_where_they_cost_more_than_it():
    def dear(case, size):
        return images(case, size) * (30 if case.attack == "clean" else 1)

    plan = replace(with_table(*ON_STANDARD, table=60_000), images=dear)
    sizes = table_sizes(plan, Evidence())
    assert sum(dear(c, size) for c, size in sizes.items()) <= 60_000
    assert max(sizes.values()) == sizes[ON_STANDARD[0]] > 256


def test_where_every_row_runs_on_all_the_table_comes_before_submissions():
    plan = replace(with_table(), start=1024, table_first=True, ceilings=Ceilings(None, None, None))
    order = policies(simulate(plan, 0.9, None, [submitted()], [case("pgd-200")]))
    assert order.index("table") < order.index("submissions") < order.index("checks")
    assert order[-1] == "clean batches" and MORE_EXAMPLES not in order and "first rows" not in order


def test_beside_named_attacks_everything_else_keeps_to_its_share():
    broken = {"transfer-pgd-20": 0.0}
    offered = [submitted(f"from:standard/pgd-{i}") for i in range(4)]
    for extras in (0, 6_000, 10_000, 10**6):
        plan = replace(with_table(), ceilings=Ceilings(None, 10**9, extras), checks=False)
        evidence = simulate(plan, lambda c: broken.get(c.attack, 0.9), None, offered)
        named = set(plan.cases)
        others = [p for s in evidence.steps for p in s.parts if p in s.random or p.case not in named]
        assert sum(part.images for part in others) <= extras
        assert bool(others) == (extras >= 6_000)
        assert all(evidence.sizes.get(c, 0) >= 256 for c in plan.first_rows)


def test_a_step_for_the_table_alone_is_no_part_of_a_verdict():
    step = Step("table", "because", (Sized(ON_RCI[2], 256, 512),), for_table=True)
    judged = Step("attack", "because", (Sized(ON_RCI[3], 256, 512),))
    evidence = Evidence((step, judged))
    assert evidence.sizes == {ON_RCI[2]: 256, ON_RCI[3]: 256} and evidence.for_table == {ON_RCI[2]}
