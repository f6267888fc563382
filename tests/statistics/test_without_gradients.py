"""Checks of the gradient are answered by attacks without gradients, where these have had their say."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_coded.schema.controls import ENSEMBLE
from robustbench_coded.schema.words import GRADIENT_SELF_TESTS, CheckName, CheckOutcome
from robustbench_coded.selftests.run_all import _TESTS
from robustbench_coded.statistics.case_results import case_results
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.next_steps import NextStep
from robustbench_coded.statistics.without_gradients import ASKED_FIRST, STRONGER, answered_without_gradients

N = 400
ALONE = {"randomised": False, "batch_dependent": False}


def failed(name):
    return Check(
        name, CheckOutcome.FAILED, "It fails.", next_step=NextStep("do x"), run_next=("square-1000",)
    )


DIFFERENCES = failed("self-tests: finite differences")


@pytest.fixture
def outcome(evaluation):
    """What becomes of a failed check, from the shares of examples that each attack leaves right."""

    def judge(attacks, check=DIFFERENCES, stopped=(), partly=()):
        made = evaluation()
        made.add("clean", np.ones((N, 1)), **ALONE)
        for attack, left in attacks.items():
            right = (np.arange(N) < left * N)[:, None]
            made.add(attack, right, planned=2 * N if attack in partly else None, **ALONE)
        rows = case_results(*made.parts())
        (ensemble,) = [row for row in rows if row.key.attack == ENSEMBLE]
        (found,) = answered_without_gradients([check], rows, ensemble, stopped)
        return found

    return judge


AGREE = {"pgd-20": 0.8, "rays-400": 0.8, "rays-800": 0.8}


def test_agreement_of_attacks_with_and_without_gradients_answers_it(outcome):
    found = outcome(AGREE)
    assert found.outcome == CheckOutcome.PASSED
    assert "answered without gradients: rays-400 leaves 80.0% and the ensemble 80.0%" in found.finding
    assert not found.run_next


@pytest.mark.parametrize(
    ("attacks", "asked"),
    [
        ({"pgd-20": 0.8}, ASKED_FIRST),
        ({"pgd-20": 0.8, "square-1000": 0.8}, ASKED_FIRST),  # scores may lie, labels may not
        ({"pgd-20": 0.8, "rays-800": 0.8}, ASKED_FIRST),  # nobody knows whether it had come to its end
        ({"pgd-20": 0.8, "rays-400": 0.85, "rays-800": 0.82}, ("rays-1600",)),
        # The slope of another network, and a search that gets as far as that: neither is evidence.
        ({"pgd-20": 0.8, "rays-400": 0.9, "rays-800": 0.9}, STRONGER),
        # What was found on another subject says nothing about how far labels get.
        ({"pgd-20": 0.8, "from:standard/pgd-20": 0.8, "rays-400": 0.9, "rays-800": 0.9}, STRONGER),
        ({"pgd-20": 0.9, "rays-400": 0.8, "rays-800": 0.8}, ("rays-1600",)),
    ],
    ids=["none", "scores alone", "one length", "unfinished", "too weak", "submitted", "gradients beaten"],
)
def test_it_stays_failed_and_asks_for_more(outcome, attacks, asked):
    found = outcome(attacks)
    assert found.outcome == CheckOutcome.FAILED
    assert set(asked) <= set(found.run_next)
    assert "square-1000" in found.run_next  # what was asked for before
    told = found.next_step.attacks
    assert len(set(told)) == len(told) and not set(told) & set(attacks)  # each once, and none that ran


def test_attacks_that_were_stopped_or_are_incomplete_answer_nothing(outcome):
    assert outcome(AGREE, stopped=("rays-800",)).outcome == CheckOutcome.FAILED
    assert outcome(AGREE, partly=("rays-800",)).outcome == CheckOutcome.FAILED


@pytest.mark.parametrize(("has_base", "named"), [(True, True), (False, False)])
def test_a_transfer_is_named_only_where_there_is_a_base_model(evaluation, has_base, named):
    made = evaluation()
    for attack in ("clean", "pgd-20"):
        made.add(attack, np.ones((N, 1)), **ALONE)
    rows = case_results(*made.parts())
    (ensemble,) = [row for row in rows if row.key.attack == ENSEMBLE]
    check = replace(DIFFERENCES, run_next=("square-1000", "transfer-pgd-20"))
    ensemble = replace(ensemble, has_base=has_base)
    (found,) = answered_without_gradients([check], rows, ensemble)
    assert "square-1000" in found.next_step.attacks
    assert ("transfer-pgd-20" in found.next_step.attacks) is named


def test_a_transfer_may_be_what_finds_most(outcome):
    """From the base model, or from another subject of the run: it needs no gradient of this defence."""
    attacks = {"pgd-20": 1.0, "transfer-pgd-20": 0.8, "rays-400": 0.8, "rays-800": 0.8}
    assert outcome(attacks).outcome == CheckOutcome.PASSED


@pytest.mark.parametrize(
    "name",
    [
        *("self-tests: base model", "self-tests: answers beside clean inputs", "self-tests: attack"),
        *("self-tests: answers with and without gradients", CheckName.TWICE_THE_STEPS),
    ],
)
def test_what_is_not_about_the_gradient_stands(outcome, name):
    assert outcome(AGREE, check=failed(name)).outcome == CheckOutcome.FAILED


def test_a_constant_resists_labels_as_well(evaluation):
    made = evaluation()
    right = (np.arange(N) % 10 == 0)[:, None]
    for attack in ("clean", "pgd-20", "rays-400", "rays-800"):
        made.add(attack, right, **ALONE)
    outcomes, planned = made.parts()
    rows = case_results(outcomes.assign(prediction=0), planned)
    (ensemble,) = [row for row in rows if row.key.attack == ENSEMBLE]
    (found,) = answered_without_gradients([failed(CheckName.ZERO_GRADIENTS)], rows, ensemble)
    assert found.outcome == CheckOutcome.FAILED
    assert "no more than uninformative inputs" in found.finding


def test_nothing_is_answered_where_labels_alone_find_everything(outcome):
    assert outcome({"pgd-20": 0.1, "rays-800": 0.0}).outcome == CheckOutcome.FAILED
    assert outcome({"pgd-20": 0.0, "rays-800": 0.0}).outcome == CheckOutcome.FAILED


def test_the_self_tests_of_the_gradient_exist():
    assert GRADIENT_SELF_TESTS.issubset(_TESTS)


STANDARD = {"defence": "standard", "k": None, "n": None}
SILENT = Check("self-tests: gradients along the path", "failed", "It has none.", {"zero_share": 1.0})


@pytest.mark.parametrize(
    ("check", "passed", "network", "found", "outcome"),
    [
        (SILENT, True, 0.8, "from:standard/apgd-mt-20", "passed"),
        (SILENT, True, 0.7, "from:standard/apgd-mt-20", "failed"),  # what it keeps beyond is unexplained
        (SILENT, False, 0.8, "from:standard/apgd-mt-20", "failed"),  # its own gradients may mislead
        (SILENT, True, 0.8, "from:mixup/apgd-mt-20", "failed"),
        (DIFFERENCES, True, 0.8, "from:standard/apgd-mt-20", "failed"),  # a gradient that lies
    ],
)
def test_a_checkpoint_that_can_be_attacked_answers_for_a_defence_without_gradients(
    evaluation, check, passed, network, found, outcome
):
    made = evaluation()
    attacks = {"pgd-20": 1.0, found: 0.82, "rays-400": 0.9, "rays-800": 0.9}
    for subject, left in (({}, attacks), (STANDARD, {"apgd-mt-20": network})):
        made.add("clean", np.ones((N, 1)), **ALONE, **subject)
        for attack, share in left.items():
            made.add(attack, (np.arange(N) < share * N)[:, None], **ALONE, **subject)
    rows = case_results(*made.parts())
    ensemble = next(row for row in rows if row.key.attack == ENSEMBLE and row.key.defence != "standard")
    (judged,) = answered_without_gradients([check], rows, ensemble, network_passed=passed)
    assert judged.outcome == outcome
