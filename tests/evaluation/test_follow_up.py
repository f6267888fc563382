"""What checks may ask for: nothing that the subject has no gradient for."""

from types import SimpleNamespace

import pytest

from robustbench_coded.evaluation.planning import follow_up as module
from robustbench_coded.evaluation.planning.cases import ProbedSubject, planned_case
from robustbench_coded.evaluation.planning.follow_up import _asked_for
from robustbench_coded.schema.case import Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import CheckName

UNKNOWN, PERTURBATION = ThreatModel("batch", "unknown"), Perturbation("linf", 0.1, "pixel")
ALONE = {"randomised": False, "batch_dependent": False}


def case_of(attack, *, k=None, base=True, differentiable=True, relaxable=True, randomised, batch_dependent):
    """A planned case of a defence of the user's own."""
    gradients = {"differentiable": differentiable, "relaxable": relaxable}
    subject = ProbedSubject(
        Subject("m", "build", k, None), "mine:build", 32, randomised, batch_dependent, base, 32, **gradients
    )
    return planned_case(subject, UNKNOWN, attack, PERTURBATION, 0.02)


def judgement_of(case, *, checks=(), could_fall=True):
    verdict = SimpleNamespace(could_fall=could_fall)
    return SimpleNamespace(case=case.case, checks=checks, verdict=verdict, unbounded_eps=1.0)


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
    asked = ("pgd-20", "relaxed-pgd-20", "transfer-pgd-20", "rays-400")
    found = _asked_for(asked, CheckName.TWICE_THE_STEPS, SimpleNamespace(unbounded_eps=1.0), like, [like])
    assert [row.attack for row in found] == expected
    # Where there are relaxed gradients alone, an attack follows those.
    found = _asked_for(("apgd-mt-20",), CheckName.ANOTHER_LOSS, SimpleNamespace(), like, [like])
    followed = {(True, True): ["apgd-mt-20"], (False, True): ["relaxed-apgd-mt-20"], (False, False): []}
    assert [row.attack for row in found] == followed[differentiable, relaxable]


@pytest.mark.parametrize(
    ("randomised", "batch_dependent", "expected"),
    [(False, False, ["rays-800"]), (True, False, ["rays-800"]), (True, True, [])],
)
def test_attacks_by_labels_may_cost_more_where_inputs_are_answered_one_by_one(
    randomised, batch_dependent, expected
):
    k = 32 if batch_dependent else None
    like = case_of("pgd-10", k=k, base=False, randomised=randomised, batch_dependent=batch_dependent)
    check = SimpleNamespace(name="self-tests: finite differences", outcome="failed", run_next=("rays-800",))
    judgement = judgement_of(like, checks=(check,))
    examples, queries = 8, 800 * 5
    maker = SimpleNamespace(
        images=lambda row: 10 * examples if row is like else queries * examples // 3,
        sizes=(examples,),
        conditions=SimpleNamespace(query_budget=None),
    )
    rows, left_out = module.follow_up([judgement], [like], maker, [like])
    assert [row.attack for row in rows] == expected
    assert len(left_out) == (not expected)


@pytest.mark.parametrize(
    ("others", "defence", "expected"),
    [((), False, ["crossover-160"]), (("twice the steps",), False, []), ((), True, [])],
    ids=["alone", "beside another check", "for a base model"],
)
def test_crossover_runs_where_nothing_else_is_open_and_for_no_base_model(others, defence, expected):
    like = case_of("pgd-10", **ALONE)
    check = SimpleNamespace(name="attacks agree", outcome="failed", run_next=("crossover-160",))
    more = (SimpleNamespace(name=name, outcome="not run", run_next=()) for name in others)
    subject = SimpleNamespace(defence="rci" if defence else "standard")
    beside = SimpleNamespace(case=SimpleNamespace(subject=subject, setting=None))
    maker = SimpleNamespace(
        images=lambda row: 10**9, sizes=(8,), conditions=SimpleNamespace(query_budget=None)
    )
    judgement = judgement_of(like, checks=(check, *more), could_fall=True)
    if defence:
        own = SimpleNamespace(defence="standard")
        judgement.case = SimpleNamespace(setting=like.case.setting, subject=own)
    rows, _ = module.follow_up([judgement, beside], [like], maker, [like])
    assert [row.attack for row in rows] == expected


@pytest.mark.parametrize(
    ("others", "ran", "expected"),
    [
        ((), (), ["mosaic-8"]),
        (("attacks agree",), (), ["mosaic-8"]),
        (("twice the steps",), (), []),  # nothing is paid where something else is open
        (("twice the steps",), ("mosaic-8",), ["mosaic-16"]),  # what has begun goes on
    ],
    ids=["alone", "beside its like", "beside another check", "begun"],
)
def test_restarts_run_before_praise_alone(others, ran, expected):
    like = case_of("pgd-10", **ALONE)
    check = SimpleNamespace(
        name="twice the restarts", outcome="failed", run_next=tuple(expected or ["mosaic-8"])
    )
    more = (SimpleNamespace(name=name, outcome="not run", run_next=()) for name in others)
    subject = SimpleNamespace(defence="standard")
    judgement = judgement_of(like, checks=(check, *more))
    judgement.case = SimpleNamespace(setting=like.case.setting, subject=subject)
    maker = SimpleNamespace(
        images=lambda row: 30 if row.attack.startswith("mosaic") else 70,
        sizes=(8,),
        conditions=SimpleNamespace(query_budget=None),
    )
    cases = [like, *(case_of(attack, **ALONE) for attack in ran)]
    rows, left_out = module.follow_up([judgement], cases, maker, [like])
    assert [row.attack for row in rows] == expected and not left_out


@pytest.mark.parametrize(("price", "fits"), [(50, True), (51, False)])
def test_all_restarts_together_cost_no_more_than_everything_else(price, fits):
    like = case_of("pgd-10", **ALONE)
    check = SimpleNamespace(name="twice the restarts", outcome="failed", run_next=("mosaic-16",))
    judgement = judgement_of(like, checks=(check,))
    judgement.case = SimpleNamespace(setting=like.case.setting, subject=SimpleNamespace(defence="standard"))
    costs = {"mosaic-8": 50, "mosaic-16": price}
    maker = SimpleNamespace(
        images=lambda row: costs.get(row.attack, 100),
        sizes=(8,),
        conditions=SimpleNamespace(query_budget=None),
    )
    cases = [like, case_of("mosaic-8", **ALONE)]
    rows, left_out = module.follow_up([judgement], cases, maker, [like])
    assert [row.attack for row in rows] == ["mosaic-16"] * fits
    assert len(left_out) == (not fits)
