"""What answers of one draw have in common, and rows with few draws that learn it from others."""

import numpy as np
import pytest

from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.intervals import accuracy_interval
from robustbench_coded.judge.variance import NOT_SHARED, SharedDraws, drawn, shared_of

EXAMPLES = 128
BATCH = np.zeros(EXAMPLES, dtype=np.int64)


def coin(accuracies, falls, seed=0):
    """One batch, answered by the network that the coin chooses in each draw."""
    hardness = np.random.default_rng(seed).random((EXAMPLES, 1))
    return hardness < np.array([accuracies[side] for side in falls])


def noisy(draws, seed=0):
    rng = np.random.default_rng(seed)
    return 0.6 + rng.standard_normal((EXAMPLES, 1)) + 0.5 * rng.standard_normal((EXAMPLES, draws)) > 0


MIXED = coin((0.9, 0.5), [0, 1, 1, 0, 1, 0, 0, 1, 1, 0])


def test_a_coin_for_each_draw_is_seen_and_noise_for_each_input_is_not():
    seen = drawn(MIXED, BATCH)
    assert seen.certain and seen.degrees == 9
    assert seen.share == pytest.approx(0.04 / 0.21, rel=0.3)  # of two networks at 90 and 50%
    none = drawn(noisy(10), BATCH)
    assert not none.certain and none.share < none.high < 0.05
    assert shared_of([seen, none]) == SharedDraws(seen.share, 9)
    assert shared_of([none]) == NOT_SHARED


@pytest.mark.parametrize("fell", [0, 1])
def test_two_draws_that_fell_alike_do_not_stand_for_all(fell):
    row = coin((0.9, 0.5), [fell, fell])
    alone = accuracy_interval(row, BATCH, batch_dependent=False)
    assert not alone.low < 0.7 < alone.high  # the truth is 70%
    known = accuracy_interval(row, BATCH, batch_dependent=False, shared=shared_of([drawn(MIXED, BATCH)]))
    assert known.low < 0.7 < known.high
    assert known.estimate == alone.estimate


def test_no_right_answer_in_two_draws_that_fell_alike():
    row, shared = coin((0.7, 0.0), [1, 1]), SharedDraws(0.3, 9)
    alone, known = (
        accuracy_interval(row, BATCH, batch_dependent=False, shared=of) for of in (NOT_SHARED, shared)
    )
    assert alone.high < 0.05 and known.high > 0.35


def test_a_row_with_as_many_draws_knows_itself():
    row = noisy(10, seed=1)
    plain = accuracy_interval(row, BATCH, batch_dependent=False)
    assert accuracy_interval(row, BATCH, batch_dependent=False, shared=SharedDraws(0.3, 9)) == plain


def test_where_no_row_has_draws_enough_little_is_known():
    few = shared_of([drawn(noisy(2), BATCH)])
    assert few.share > 0.1  # two draws of one batch tell nothing
    assert shared_of([]).share == 1
    # Nothing moved: of two draws, each other one might.
    assert shared_of([drawn(coin((0.9, 0.5), [0, 0]), BATCH)]).share == 1
    batches = np.arange(EXAMPLES) // 16  # one draw each: batches that are as alike as examples
    assert shared_of([drawn(noisy(1), batches)]) == NOT_SHARED


@pytest.mark.parametrize("seen", ["scoring", "selection"])
def test_rows_of_a_run_learn_it_from_attacks_with_more_draws(evaluation, seen):
    one_by_one = {"batch_dependent": False, "batch_size": EXAMPLES, "k": None, "n": None, "defence": "coin"}
    two = coin((0.9, 0.5), [0, 0])
    draws = (MIXED, MIXED) if seen == "scoring" else (two, MIXED)
    made = evaluation().add("pgd-10", *draws, **one_by_one)
    made.add("aware-pgd-10", two, threat="batch/known", **one_by_one)
    made.add("clean", coin((1, 0.2), [0, 1, 0, 1, 1, 0, 1, 0, 0, 1]), **one_by_one)  # nobody attacks these
    rows = {row.case.attack: row for row in case_results(*made.parts())}
    known = rows["aware-pgd-10"].interval()
    assert known.low < 0.7 < known.estimate
    assert rows["aware-pgd-10"].shared == SharedDraws(drawn(MIXED, BATCH).share, 9)
