"""Self-tests of the gradient are answered by attacks without gradients and by relaxed ones, where these have
had their say.
"""

from dataclasses import replace

import numpy as np
import pytest

from attacks.presets import BY_LABELS, LAST_RESORT
from robustbench_coded.evaluation import selftests as gradients
from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.gradients import answered
from robustbench_coded.schema.words import (
    ENSEMBLE,
    GRADIENT_SELF_TESTS,
    RELAXED_CHECK,
    CheckName,
    CheckOutcome,
)

N = 400
ALONE = {"randomised": False, "batch_dependent": False}


def failed(name):
    return Check(name, CheckOutcome.FAILED, "It fails.", run_next=("square-1000",))


DIFFERENCES = failed("self-tests: finite differences")


@pytest.fixture
def outcome(evaluation):
    """What becomes of a failed check, from the shares of examples that each attack leaves right."""

    def judge(attacks, *checks, partly=(), randomised=False):
        made = evaluation()
        made.add("clean", np.ones((N, 1)), **ALONE)
        for attack, left in attacks.items():
            right = (np.arange(N) < left * N)[:, None]
            made.add(attack, right, planned=2 * N if attack in partly else None, **ALONE)
        rows = case_results(*made.parts())
        (ensemble,) = [row for row in rows if row.case.attack == ENSEMBLE]
        ensemble = replace(ensemble, randomised=randomised)
        return answered(checks or [DIFFERENCES], rows, ensemble)[0]

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
        ({"pgd-20": 0.8}, BY_LABELS),
        ({"pgd-20": 0.8, "square-1000": 0.8}, BY_LABELS),  # scores may lie, labels may not
        ({"pgd-20": 0.8, "rays-800": 0.8}, BY_LABELS),  # nobody knows whether it had come to its end
        ({"pgd-20": 0.8, "rays-400": 0.85, "rays-800": 0.82}, ("rays-1600",)),
        # The slope of another network, and a search that gets as far as that: neither is evidence.
        ({"pgd-20": 0.8, "rays-400": 0.9, "rays-800": 0.9}, LAST_RESORT),
        # What was found on another subject says nothing about how far labels get.
        ({"pgd-20": 0.8, "from:standard/pgd-20": 0.8, "rays-400": 0.9, "rays-800": 0.9}, LAST_RESORT),
        ({"pgd-20": 0.9, "rays-400": 0.8, "rays-800": 0.8}, ("rays-1600",)),
    ],
    ids=["none", "scores alone", "one length", "unfinished", "too weak", "submitted", "gradients beaten"],
)
def test_it_stays_failed_and_asks_for_more(outcome, attacks, asked):
    found = outcome(attacks)
    assert found.outcome == CheckOutcome.FAILED
    assert set(asked) - set(attacks) <= set(found.run_next)
    assert ("square-1000" in found.run_next) == ("square-1000" not in attacks)  # what was asked for before
    told = found.run_next
    assert len(set(told)) == len(told) and not set(told) & set(attacks)  # each once, and none that ran


def test_attacks_that_are_incomplete_answer_nothing(outcome):
    assert outcome(AGREE, partly=("rays-800",)).outcome == CheckOutcome.FAILED


@pytest.mark.parametrize(("has_base", "named"), [(True, True), (False, False)])
def test_a_transfer_is_named_only_where_there_is_a_base_model(evaluation, has_base, named):
    made = evaluation()
    for attack in ("clean", "pgd-20"):
        made.add(attack, np.ones((N, 1)), **ALONE)
    rows = case_results(*made.parts())
    (ensemble,) = [row for row in rows if row.case.attack == ENSEMBLE]
    check = replace(DIFFERENCES, run_next=("square-1000", "transfer-pgd-20"))
    ensemble = replace(ensemble, has_base=has_base)
    (found,) = answered([check], rows, ensemble)
    assert "square-1000" in found.run_next
    assert ("transfer-pgd-20" in found.run_next) is named


def test_a_transfer_may_be_what_finds_most(outcome):
    """From the base model, or from another subject of the run: it needs no gradient of this defence."""
    attacks = {"pgd-20": 1.0, "transfer-pgd-20": 0.8, "rays-400": 0.8, "rays-800": 0.8}
    assert outcome(attacks).outcome == CheckOutcome.PASSED


@pytest.mark.parametrize(
    "name",
    [
        *("self-tests: answers when scored", "self-tests: attack", CheckName.TWICE_THE_STEPS),
    ],
)
def test_what_is_not_about_the_gradient_stands(outcome, name):
    assert outcome(AGREE, failed(name)).outcome == CheckOutcome.FAILED


def test_nothing_is_answered_where_labels_alone_find_everything(outcome):
    assert outcome({"pgd-20": 0.1, "rays-800": 0.0}).outcome == CheckOutcome.FAILED
    assert outcome({"pgd-20": 0.0, "rays-800": 0.0}).outcome == CheckOutcome.FAILED


def test_the_self_tests_of_the_gradient_exist():
    assert {gradients.EXIST, gradients.DIFFERENCES, gradients.RISING} == GRADIENT_SELF_TESTS


RELAXED_PASSED = Check(RELAXED_CHECK, CheckOutcome.PASSED, "They lead there.")
# What gets no further than the relaxed attacks may be far from them.
RELAXED = {"relaxed-pgd-20": 0.4, "rays-400": 0.6, "rays-800": 0.6, "transfer-pgd-20": 0.7}


def test_relaxed_attacks_that_nothing_beats_answer(outcome):
    found = outcome(RELAXED, DIFFERENCES, RELAXED_PASSED)
    assert found.outcome == CheckOutcome.PASSED
    assert found.finding == (
        "It fails; answered by relaxed gradients: relaxed-pgd-20 leaves 40.0%, rays-400 60.0% and the "
        "ensemble 40.0%."
    )


@pytest.mark.parametrize(
    "attacks",
    [
        {"rays-800": 1.0},  # of a search in one length nobody knows the end
        {"rays-800": 0.59},  # it has not come to its end
        {"transfer-pgd-20": 0.36},  # found without the relaxed gradients
        {"pgd-20": 0.36},
        {"from:rci/ensemble+bits=8": 0.36},  # made of its own inputs, and more than they found
    ],
)
def test_they_do_not_where_anything_else_finds_more(outcome, attacks):
    found = {**RELAXED, **attacks}
    if attacks.get("rays-800") == 1.0:
        del found["rays-400"]
    assert outcome(found, DIFFERENCES, RELAXED_PASSED).outcome == CheckOutcome.FAILED


def test_what_is_made_of_their_own_inputs_may_find_a_little_more(outcome):
    found = {**RELAXED, "from:rci/ensemble+bits=8": 0.38}
    assert outcome(found, DIFFERENCES, RELAXED_PASSED).outcome == CheckOutcome.PASSED


def test_the_relaxed_gradients_must_have_been_tested_and_followed_to_the_end(outcome):
    assert outcome(RELAXED, DIFFERENCES).outcome == CheckOutcome.FAILED
    partly = outcome(RELAXED, DIFFERENCES, RELAXED_PASSED, partly=("relaxed-pgd-20",))
    assert partly.outcome == CheckOutcome.FAILED


def test_where_queries_are_answered_by_chance_none_is_asked_for_beside_relaxed_gradients(outcome):
    alone = {"relaxed-pgd-20": 0.4, "pgd-20": 0.6}
    assert outcome(alone, DIFFERENCES, RELAXED_PASSED, randomised=True).outcome == CheckOutcome.PASSED
    assert outcome(alone, DIFFERENCES, RELAXED_PASSED).outcome == CheckOutcome.FAILED


@pytest.mark.parametrize(("found", "settled"), [(0.48, CheckOutcome.PASSED), (0.4, CheckOutcome.FAILED)])
def test_a_search_at_its_end_that_found_a_little_more_answers_that_it_did(outcome, found, settled):
    more = Check(CheckName.TRANSFER_OR_BLACK_BOX, CheckOutcome.FAILED, "rays-800 found more.")
    attacks = {"pgd-20": 0.5, "rays-400": found, "rays-800": found}
    assert outcome(attacks, more, DIFFERENCES).outcome == settled
    assert outcome(attacks, more).outcome == CheckOutcome.FAILED  # the gradient passed its self-tests


def test_relaxed_gradients_answer_nothing_else(outcome):
    assert outcome(RELAXED, failed("self-tests: base model"), RELAXED_PASSED).outcome == CheckOutcome.FAILED


QUERIES = {"square-1000": 0.8, "rays-400": 0.8, "rays-800": 0.8, "from:standard/pgd-20": 0.8}
NOT_COMPARED = Check(CheckName.TRANSFER_OR_BLACK_BOX, CheckOutcome.NOT_RUN, "No attack with gradients ran.")


@pytest.mark.parametrize(
    ("attacks", "network", "answered_for"),
    [
        (QUERIES, 0.8, True),
        (QUERIES, 0.7, False),  # ten points that nothing but silence speaks for
        (QUERIES, None, False),  # that two kinds of them agree stands in for no gradient
        (QUERIES | {"rays-800": 0.7}, 0.8, False),
        (QUERIES | {"pgd-20": 0.8}, 0.8, False),  # it has gradients, and the check compares with them
    ],
)
def test_queries_stand_in_for_gradients_where_the_network_keeps_as_much(
    evaluation, attacks, network, answered_for
):
    made = evaluation()
    made.add("clean", np.ones((N, 1)), **ALONE)
    for attack, left in attacks.items():
        made.add(attack, (np.arange(N) < left * N)[:, None], **ALONE)
    if network is not None:
        alone = ALONE | {"defence": "standard", "k": None, "n": None}
        made.add("pgd-20", (np.arange(N) < network * N)[:, None], **alone)
    rows = case_results(*made.parts())
    (ensemble,) = [
        row for row in rows if row.case.attack == ENSEMBLE and row.case.subject.defence != "standard"
    ]
    _, found = answered([DIFFERENCES, NOT_COMPARED], rows, ensemble)
    assert found.passed is answered_for
    told = "its checkpoint, whose gradients were followed, keeps 80.0%" in found.finding
    assert told is answered_for


def test_what_searches_corners_of_the_ball_answers_nothing_in_l2(evaluation):
    made = evaluation()
    for attack, left in ({"clean": 1.0} | AGREE).items():
        made.add(attack, (np.arange(N) < left * N)[:, None], norm="l2", **ALONE)
    rows = case_results(*made.parts())
    (ensemble,) = [row for row in rows if row.case.attack == ENSEMBLE]
    assert answered([DIFFERENCES], rows, ensemble)[0].failed
