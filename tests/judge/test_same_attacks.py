"""Base and defence are compared over the same attacks: what a comparison asks for, and when it is closed."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.judge import judge
from robustbench_coded.schema.words import ENSEMBLE, STANDARD

PASSED = Check("attacks agree", "passed", "")
BASE = {"defence": "standard", "k": None, "n": None, "randomised": False, "batch_dependent": False}
ALONE = {"randomised": False, "batch_dependent": False}


def judged(evaluation, base, defence, margin=0.03, has_base=True, faulty=()):
    """The verdict and its checks, from attack -> accuracy on either side; inputs fall in one order. Those on
    either side in ``faulty`` gave a result that was none.
    """
    run = evaluation()
    order = np.arange(1600)[:, None] * 89 % 1600 / 1600
    for attacks, subject in ((base, BASE), (defence, ALONE)):
        run.add("clean", order >= 0, **subject)
        for attack, left in attacks.items():
            run.add(attack, order < left, **subject)
    outcomes, planned = run.parts()
    counts = {record.case: 1 for record in planned if record.case.attack in faulty}
    rows = [replace(row, has_base=has_base) for row in case_results(outcomes, planned, counts)]
    made = next(row for row in rows if row.case.attack == ENSEMBLE and row.case.subject.defence != STANDARD)
    found = judge(rows, made, [PASSED], margin=margin)
    return found


OTHER_ATTACKS = "other attacks on the base model"


def test_a_gain_over_what_the_base_model_alone_met_is_asked_of_the_defence(evaluation):
    base, defence = {"fgsm": 0.55, "apgd-t-100": 0.1}, {"fgsm": 0.56, "apgd-mt-20": 0.56}
    found = judged(evaluation, base, defence)
    assert (found.name, found.rule, found.missing_here) == ("not settled", OTHER_ATTACKS, ("apgd-t-100",))
    assert "55.0% of the base model under the attacks that ran on both" in found.reason
    assert judged(evaluation, base, {**defence, "apgd-t-100": 0.56}).name == "no failure found"
    for other in ("transfer-apgd-t-100", "from:standard/apgd-t-100"):
        assert judged(evaluation, base, {**defence, other: 0.6}).name == "not settled"
    # What both met leaves room enough for a gain.
    assert judged(evaluation, base, {"fgsm": 0.6, "apgd-mt-20": 0.6}).name == "no failure found"


def test_a_defence_that_names_no_base_model_stands_beside_its_checkpoint(evaluation):
    found = judged(evaluation, {"pgd-20": 0.6}, {"pgd-20": 0.6, "apgd-t-20": 0.6}, has_base=False)
    assert (found.name, found.gain, found.beside.estimate) == ("no failure found", None, 0.0)
    assert "It names no base model; its checkpoint alone keeps 60.0%: +0.0 points" in found.reason
    assert judged(evaluation, {"pgd-20": 0.6}, {"pgd-20": 0.6}).beside is None


@pytest.mark.parametrize(("attack", "closed"), [("eot10-pgd-20", True), ("eot10-pgd-5", False)])
def test_fewer_gradients_than_the_base_model_met_do_not_count(evaluation, attack, closed):
    found = judged(evaluation, {"pgd-100": 0.1}, {attack: 0.6, "apgd-mt-20": 0.6})
    assert (found.name == "no failure found") == closed


def test_a_base_model_that_met_too_little_leaves_its_defences_open(evaluation):
    found = judged(evaluation, {"fgsm": 0.5}, {"fgsm": 0.4, "pgd-20": 0.3})
    assert found.rule == OTHER_ATTACKS and "run apgd-mt-20" in found.reason
    assert judged(evaluation, {"fgsm": 0.5}, {"fgsm": 0.0}).name == "worse than its base"  # nothing is left


@pytest.mark.parametrize(
    "more", ["square-1000", "switch-20", "from:standard/switch-20", "transfer-apgd-t-100"]
)
def test_a_defence_is_not_negative_for_attacks_that_its_base_model_did_not_meet(evaluation, more):
    base = {"pgd-20": 0.4, "apgd-mt-20": 0.4}
    # Whether or not it is the strongest here: it might have left nothing of the base model.
    for left in (0.2, 0.4):
        found = judged(evaluation, base, {"pgd-20": 0.4, more: left})
        assert found.name == "not settled"
        assert f"was not attacked with {more.removeprefix('from:standard/')}" in found.reason
    own = more.removeprefix("from:standard/").removeprefix("transfer-")
    found = judged(evaluation, {**base, own: 0.39}, {"pgd-20": 0.4, more: 0.3})
    assert found.name == "worse than its base"


def test_what_transfer_made_on_the_base_model_is_no_other_attack(evaluation):
    base = {"pgd-20": 0.4, "apgd-mt-20": 0.4}
    made = {"pgd-20": 0.3, "transfer-apgd-mt-20": 0.5, "from:standard/transfer-apgd-mt-20": 0.3}
    assert judged(evaluation, base, made).name == "worse than its base"


def test_what_else_ran_on_the_defence_does_not_matter_where_nothing_is_left_of_its_base_model(evaluation):
    # Half a point: nothing that the base model was spared could leave it much less.
    for left, matters in ((0.004, False), (0.006, True)):
        found = judged(evaluation, {"pgd-20": left}, {"pgd-20": 0.4, "square-1000": left + 0.02})
        assert bool(found.unmatched_attacks) == matters and found.name == "broken"


def test_a_base_model_that_met_cross_entropy_alone_leaves_its_defences_open(evaluation):
    both = {"pgd-20": 0.3, "square-1000": 0.2}
    # Cross-entropy alone leaves of a robust network what margins and targets take.
    assert "run apgd-mt-20" in judged(evaluation, {"pgd-20": 0.4}, both).reason
    # An attack on another loss speaks for all that raise the cross-entropy.
    met = {"pgd-20": 0.4, "apgd-mt-20": 0.4}
    assert (
        judged(evaluation, met, {"pgd-20": 0.3, "relaxed-eot4-apgd-ce-50": 0.2}).name == "worse than its base"
    )


def test_nothing_is_asked_where_it_could_not_change_the_word(evaluation):
    found = judged(evaluation, {"pgd-20": 0.4}, {"pgd-20": 0.405})
    assert found.name in ("no gain", "not settled")


def test_an_attack_with_faulty_results_takes_away_and_supports_nothing(evaluation):
    attacks = {"pgd-20": 0.6, "apgd-mt-20": 0.6}
    good = {"pgd-20": 0.9, "apgd-mt-20": 0.9}
    assert judged(evaluation, attacks, good).name == "no failure found"
    assert judged(evaluation, attacks, good, faulty=("pgd-20",)).rule == "incomplete"
    # What it found counts all the same.
    assert judged(evaluation, attacks, {**good, "fgsm": 0.0}, faulty=("fgsm",)).rule == "below its base"
    # Nor is a gain denied by a base model that a fault may have spared.
    assert judged(evaluation, attacks, attacks).name == "no gain"
    assert judged(evaluation, attacks, attacks, faulty=("apgd-mt-20",)).name == "not settled"
