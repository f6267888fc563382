"""Praise needs an attack on a margin or on targets, whether or not there is a base model to compare with."""

import numpy as np
import pytest
from msgspec.structs import replace

from attacks.attack import read_attack
from attacks.presets import PRESETS
from robustbench_coded.judge.checks import Check, on_another_loss
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.judge import judge
from robustbench_coded.schema.words import ENSEMBLE

PASSED = Check("attacks agree", "passed", "")
EXAMPLES = 640
STANDARD = {"defence": "standard", "k": None, "n": None, "randomised": False, "batch_dependent": False}
PLUGIN = {**STANDARD, "defence": "plugin"}


def judged(evaluation, attacks, subject=STANDARD, unfinished=()):
    """Verdict and checks of a subject that has no base model, from attack -> accuracy."""
    run = evaluation().add("clean", np.ones((EXAMPLES, 1)), **subject)
    for attack, left in attacks.items():
        right = np.arange(EXAMPLES)[:, None] < left * EXAMPLES
        run.add(attack, right[: 500 if attack in unfinished else None], planned=EXAMPLES, **subject)
    outcomes, planned = run.parts()
    rows = case_results(outcomes, [replace(case, has_base=False) for case in planned])
    found = judge(rows, next(row for row in rows if row.case.attack == ENSEMBLE), [PASSED])
    return found, found.checks


WEAK = {"fgsm": 0.6, "pgd-10": 0.4, "pgd-20": 0.39}


@pytest.mark.parametrize("subject", [STANDARD, PLUGIN])
@pytest.mark.parametrize(
    "attack", [None, "apgd-ce-100", "square-1000", "transfer-apgd-mt-20", "apgd-mt-9", "my_module:Attack"]
)
def test_cross_entropy_and_searches_alone_make_no_verdict_positive(evaluation, subject, attack):
    found, checks = judged(evaluation, WEAK | ({attack: 0.38} if attack else {}), subject)
    assert found.name == "not settled" and found.open_checks == ("another loss",)
    assert "another loss (not run)" in found.reason
    assert checks[0].run_next == ("apgd-mt-20",)


@pytest.mark.parametrize(
    "attack", ["apgd-mt-20", "apgd-t-100", "apgd-dlr-100", "pgd-20+loss=margin", "autoattack:standard"]
)
def test_a_margin_or_targets_close_the_question(evaluation, attack):
    found, checks = judged(evaluation, WEAK | {attack: 0.35})
    assert found.name == "no failure found"
    assert (checks[0].outcome, "leaves 35.0%" in checks[0].finding) == ("passed", True)


@pytest.mark.parametrize(
    ("relaxed", "asked"),
    [
        ({"relaxed-pgd-20": 0.3}, ("relaxed-apgd-mt-20",)),
        ({"relaxed-pgd-20": 0.35}, ("relaxed-apgd-mt-20",)),  # no less than the others, and silent on a loss
        ({"relaxed-pgd-20": 0.5}, ()),
        ({"relaxed-pgd-20": 0.3, "relaxed-apgd-mt-20": 0.4}, ()),
    ],
)
def test_where_relaxed_gradients_lead_as_far_the_other_loss_follows_them(evaluation, relaxed, asked):
    found, checks = judged(evaluation, WEAK | {"apgd-mt-20": 0.35} | relaxed)
    assert checks[0].run_next == asked
    assert found.name == ("not settled" if asked else "no failure found")


def test_half_of_such_an_attack_closes_nothing(evaluation):
    found, _ = judged(evaluation, WEAK | {"apgd-mt-20": 0.35}, unfinished=("apgd-mt-20",))
    assert found.name == "not settled" and "missing" in found.reason


def test_the_question_is_not_asked_where_no_positive_verdict_is_possible(evaluation):
    found, checks = judged(evaluation, {"pgd-20": 0.0})
    assert found.name == "broken" and len(checks) == 1
    found, checks = judged(evaluation, {"pgd-20": 0.0, "apgd-t-100": 0.0}, unfinished=("apgd-t-100",))
    assert found.name == "broken" and "missing" in found.reason


def test_the_default_attacks_have_one_and_those_of_the_paper_do_not():
    assert any(on_another_loss(read_attack(name)) for name in PRESETS["adaptive"])
    assert not any(on_another_loss(read_attack(name)) for name in PRESETS["paper"])
