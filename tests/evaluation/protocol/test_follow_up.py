"""What checks may ask for: nothing that the subject has no gradient for."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from robustbench_coded.evaluation.planning.cases import ProbedSubject, planned_case
from robustbench_coded.evaluation.planning.comparisons import comparison_of
from robustbench_coded.evaluation.protocol.follow_up import follow_up, follow_ups_of
from robustbench_coded.evaluation.protocol.plan import EvaluationPlan, Need, Results
from robustbench_coded.evaluation.session import planning
from robustbench_coded.judge.checks import not_run
from robustbench_coded.judge.rules import decide
from robustbench_coded.schema.case import Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import CheckName, Rung
from tests.judge.test_verdict import ALONE as NO_BASE
from tests.judge.test_verdict import GOOD, gain

UNKNOWN, PERTURBATION = ThreatModel("batch", "unknown"), Perturbation("linf", 0.1, "pixel")
ALONE = {"randomised": False, "batch_dependent": False}


def case_of(attack, *, k=None, base=True, differentiable=True, relaxable=True, randomised, batch_dependent):
    """A planned case of a defence of the user's own."""
    gradients = {"differentiable": differentiable, "relaxable": relaxable}
    subject = ProbedSubject(
        Subject("m", "build", k, None), "mine:build", 32, randomised, batch_dependent, base, 32, **gradients
    )
    return planned_case(subject, UNKNOWN, attack, PERTURBATION, 0.02)


def wanted(like, *checks, images, beside=(), **figures):
    """What open checks ask for where one attack ran: names, and how many were too dear."""
    cases = (like, *beside)
    judged = {comparison_of(case): (case.case.setting,) for case in cases}
    plan = EvaluationPlan(cases, judged, (SIZE,), SIZE, images).at(SIZE)
    steps = (
        Need(Rung.QUICK, "because", cases, SIZE, costs=(1,) * len(cases)),
        Need(Rung.SELF_TESTS, "", images=SIZE),
    )
    verdict = decide(replace(GOOD, **(NO_BASE | {"checks": checks, **figures})))
    results = Results(steps, verdicts={like.case.setting: verdict})
    rows, left_out = follow_up(plan, results, [comparison_of(like)])
    return [row.attack for row in rows], len(left_out)


SIZE = 8


@pytest.mark.parametrize(
    ("differentiable", "relaxable", "expected"),
    [
        (True, True, ["pgd-20", "relaxed-pgd-20", "transfer-pgd-20", "rays-400"]),
        (False, True, ["relaxed-pgd-20", "transfer-pgd-20", "rays-400"]),
        (False, False, ["transfer-pgd-20", "rays-400"]),
    ],
)
def test_an_attack_that_needs_a_gradient_is_asked_for_where_there_is_one(differentiable, relaxable, expected):
    like = case_of("rays-400", differentiable=differentiable, relaxable=relaxable, **ALONE)
    attacks = ("pgd-20", "relaxed-pgd-20", "transfer-pgd-20", "rays-400")
    found = follow_ups_of(not_run(CheckName.TWICE_THE_STEPS, "", *attacks), like, [like])
    assert [row.attack for row in found] == expected
    # Where there are relaxed gradients alone, an attack follows those.
    found = follow_ups_of(not_run(CheckName.ANOTHER_LOSS, "", "apgd-mt-20"), like, [like])
    followed = {(True, True): ["apgd-mt-20"], (False, True): ["relaxed-apgd-mt-20"], (False, False): []}
    assert [row.attack for row in found] == followed[differentiable, relaxable]


@pytest.mark.parametrize(("randomised", "batch_dependent"), [(False, False), (True, False), (True, True)])
def test_attacks_by_labels_may_cost_3000_answers_an_example(randomised, batch_dependent):
    k = 32 if batch_dependent else None
    like = case_of("pgd-10", k=k, base=False, randomised=randomised, batch_dependent=batch_dependent)

    def rays(steps):
        check = not_run("self-tests: finite differences", "", f"rays-{steps}")
        cost = steps * 5 * like.subject.images // like.subject.k
        return wanted(like, check, images=lambda case, size: size * (10 if case == like else cost // 3))

    assert rays(1600) == (["rays-1600"], 0)
    assert rays(2000) == ([], 1)


@pytest.mark.parametrize(
    ("others", "defence", "expected"),
    [((), False, ["crossover-160"]), (("twice the steps",), False, ["pgd-40"]), ((), True, [])],
    ids=["alone", "beside another check", "for a base model"],
)
def test_crossover_runs_where_nothing_else_is_open_and_for_no_base_model(others, defence, expected):
    subject = ProbedSubject(Subject("m", "standard", None, None), "standard", 32, False, False, False, 32)
    like = planned_case(subject, UNKNOWN, "pgd-10", PERTURBATION, 0.02)
    beside = (case_of("pgd-10", **ALONE),) if defence else ()
    check = not_run(CheckName.ATTACKS_AGREE, "", "crossover-160")
    more = [not_run(name, "", "pgd-40") for name in others]
    assert wanted(like, check, *more, images=lambda case, size: 10**9, beside=beside)[0] == expected


@pytest.mark.parametrize(("outcome", "expected"), [("failed", ["square-100"]), ("not run", [])])
def test_what_gains_nothing_is_asked_nothing_unless_gradients_misled(outcome, expected):
    like = case_of("pgd-10", **ALONE)
    check = replace(not_run(CheckName.TRANSFER_OR_BLACK_BOX, "", "square-1000"), outcome=outcome)
    below = {"gain": gain(-0.05, 0.06), "compared": True, "bar": 0.03}
    assert wanted(like, check, images=lambda case, size: 1, **below)[0] == expected


@pytest.mark.parametrize(
    ("other", "asks", "ran", "expected"),
    [
        (CheckName.ATTACKS_AGREE, (), (), ["mosaic-8"]),
        (CheckName.TWICE_THE_STEPS, ("pgd-40",), (), ["pgd-40"]),  # what is cheaper comes first
        (CheckName.TWICE_THE_STEPS, (), (), ["mosaic-8"]),  # too few images: no attack would pass it
        (CheckName.TWICE_THE_STEPS, ("pgd-40",), ("mosaic-8",), ["mosaic-16", "pgd-40"]),  # it has begun
    ],
    ids=["beside its like", "beside another check", "beside one that asks nothing", "begun"],
)
def test_restarts_run_where_no_other_check_asks_for_attacks(other, asks, ran, expected):
    like = case_of("pgd-10", **ALONE)
    check = not_run(CheckName.TWICE_THE_RESTARTS, "", "mosaic-16" if ran else "mosaic-8")
    beside = [case_of(attack, **ALONE) for attack in ran]
    more = [not_run(other, "", *asks)]

    def images(case, size):
        return 30 if case.attack.startswith("mosaic") else 70

    assert wanted(like, check, *more, images=images, beside=beside) == (expected, 0)


@pytest.mark.parametrize(("price", "fits"), [(150, True), (151, False)])
def test_all_restarts_together_cost_at_most_twice_everything_else(price, fits):
    like = case_of("pgd-10", **ALONE)
    check = not_run(CheckName.TWICE_THE_RESTARTS, "", "mosaic-16")
    costs = {"mosaic-8": 50, "mosaic-16": price}
    found = wanted(
        like,
        check,
        images=lambda case, size: costs.get(case.attack, 100),
        beside=[case_of("mosaic-8", **ALONE)],
    )
    assert found == (["mosaic-16"] * fits, 0 if fits else 1)


@pytest.mark.parametrize(("verdict", "prices"), [("not settled", [30]), ("broken", [])])
def test_on_all_images_an_open_verdict_meets_what_it_met_on_fewer(monkeypatch, verdict, prices):
    case = case_of("rays-400", **ALONE)  # no row
    monkeypatch.setattr(planning, "in_table", lambda *arguments, every: False)
    fields = {"cases": (case,), "judged": {}, "sizes": (10, 40), "everything": False}
    plan = SimpleNamespace(images=lambda case, size: size, **fields)
    evaluation = SimpleNamespace(plan=plan, prepared=SimpleNamespace(config=None))
    results = SimpleNamespace(sizes={case: 10}, verdicts={case.case.setting: SimpleNamespace(name=verdict)})
    assert [each.images for each in planning.outlook_of(evaluation, results)] == prices
