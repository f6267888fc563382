"""Checks of the gradient are answered by relaxed attacks, where these lead and nothing else finds more."""

import numpy as np
import pytest

from robustbench_coded.schema.controls import ENSEMBLE
from robustbench_coded.schema.words import RELAXED_CHECK, CheckOutcome
from robustbench_coded.statistics.case_results import case_results
from robustbench_coded.statistics.check import Check
from robustbench_coded.statistics.relaxed_answers import answered_by_relaxed

N = 400
ALONE = {"randomised": False, "batch_dependent": False}
LEADS = Check(RELAXED_CHECK, CheckOutcome.PASSED, "They lead there.")
DIFFERENCES = Check("self-tests: finite differences", CheckOutcome.FAILED, "They disagree.")
# What gets no further than the relaxed attacks may be far from them.
ATTACKS = {"relaxed-pgd-20": 0.4, "rays-400": 0.6, "rays-800": 0.6, "transfer-pgd-20": 0.7}


@pytest.fixture
def outcome(evaluation):
    """What becomes of a failed check, from the shares of examples that each attack leaves right."""

    def judge(attacks, checks=(DIFFERENCES, LEADS), stopped=()):
        made = evaluation().add("clean", np.ones((N, 1)), **ALONE)
        for attack, left in attacks.items():
            made.add(attack, (np.arange(N) < left * N)[:, None], **ALONE)
        rows = case_results(*made.parts())
        (ensemble,) = [row for row in rows if row.key.attack == ENSEMBLE]
        return answered_by_relaxed(checks, rows, ensemble, stopped)[0]

    return judge


def test_relaxed_attacks_that_nothing_beats_answer(outcome):
    found = outcome(ATTACKS)
    assert found.outcome == CheckOutcome.PASSED
    assert found.finding == (
        "They disagree; answered by relaxed gradients: relaxed-pgd-20 leaves 40.0%, rays-400 60.0% and the "
        "ensemble 40.0%."
    )


@pytest.mark.parametrize(
    "attacks",
    [
        {"rays-800": 1.0},  # of a search in one length nobody knows the end
        {"rays-800": 0.59},  # it has not come to its end
        {"transfer-pgd-20": 0.39},  # found without the relaxed gradients
        {"pgd-20": 0.39},
        {"from:rci/ensemble+uneven=1": 0.36},  # made of its own inputs, and more than they found
    ],
)
def test_they_do_not_where_anything_else_finds_more(outcome, attacks):
    found = {**ATTACKS, **attacks}
    if attacks.get("rays-800") == 1.0:
        del found["rays-400"]
    assert outcome(found).outcome == CheckOutcome.FAILED


def test_what_is_made_of_their_own_inputs_may_find_a_little_more(outcome):
    assert outcome({**ATTACKS, "from:rci/ensemble+bits=8": 0.38}).outcome == CheckOutcome.PASSED


def test_the_relaxed_gradients_must_have_been_tested(outcome):
    assert outcome(ATTACKS, checks=(DIFFERENCES,)).outcome == CheckOutcome.FAILED
    assert outcome(ATTACKS, stopped=("relaxed-pgd-20",)).outcome == CheckOutcome.FAILED


def test_what_is_not_about_the_gradient_stands(outcome):
    base = Check("self-tests: base model", CheckOutcome.FAILED, "Another network.")
    assert outcome(ATTACKS, checks=(base, LEADS)).outcome == CheckOutcome.FAILED
