"""Victims in random batches: what they bound, and where they say nothing."""

import numpy as np
import pandas as pd
import pytest

from robustbench_coded.statistics.correlation import UNMEASURED, Correlation
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.outcomes import Cell
from robustbench_coded.statistics.random_batches import random_batch_high
from robustbench_coded.statistics.repartitioned import Beside, InRandomBatches, beside, repartitioned

TAIL, K = 0.025, 128


def right(count, victims=640):
    return np.arange(victims) < count


def test_none_right_leaves_0_of_the_victims():
    assert random_batch_high(right(0), TAIL, UNMEASURED, K) == pytest.approx(1 - TAIL ** (1 / 640))


def test_a_few_right_leave_what_the_binomial_does_and_more_than_that_say_nothing():
    # Clopper and Pearson, 6 of 640 at 2.5%.
    assert random_batch_high(right(6), TAIL, UNMEASURED, K) == pytest.approx(0.020293, abs=1e-5)
    assert random_batch_high(right(19), TAIL, UNMEASURED, K) < 0.05
    assert random_batch_high(right(20), TAIL, UNMEASURED, K) == 1.0
    assert random_batch_high(right(5, 100), TAIL, UNMEASURED, K) < 0.12  # five are always few
    assert random_batch_high(right(6, 100), TAIL, UNMEASURED, K) == 1.0


def test_a_correlation_that_other_rows_show_beyond_doubt_makes_victims_worth_less():
    # Five batches that are each one outcome: 0 of 5.
    assert random_batch_high(right(0), TAIL, Correlation(0.01, 1.0), K) == pytest.approx(1 - TAIL ** (1 / 5))
    # A correlation that nobody saw does not count, however large it may be.
    assert random_batch_high(right(0), TAIL, Correlation(0.0, 1.0), K) < 0.006
    part = random_batch_high(right(0), TAIL, Correlation(0.01, 0.1), K)
    assert part == pytest.approx(1 - TAIL ** (13.7 / 640), rel=1e-6)


def cell(examples=64):
    number = np.arange(examples)
    return Cell(number, number // 8, number % 2, np.arange(1), np.full((examples, 1), 9, dtype=np.int32))


def test_victims_bound_a_row_of_other_victims_and_its_difference_to_the_base_model():
    one = InRandomBatches(np.arange(640), right(0), K)
    found = beside(cell(), one, [])
    assert found.own is None and found.playable == (one,)  # it can always be played, and has no lower end
    high = found.interval(lambda tail: Interval(0.0, 0.0, 0.4), TAIL).high
    assert high == pytest.approx(1 - (TAIL / 2) ** (1 / 640))
    # Six right, four of them beside a right base model: two are the defence's alone.
    some = Beside(cell(), playable=(InRandomBatches(np.arange(640), right(6), K),))
    base = np.arange(640) >= 2
    above = some.difference_high(lambda tail: 0.5, lambda example: base[example], 0.0, TAIL)
    assert above == pytest.approx(random_batch_high(right(2), TAIL / 2, UNMEASURED, K))
    # A base model that lacks some of the victims says nothing about them.
    assert some.difference_high(lambda tail: 0.5, lambda example: None, 0.0, TAIL) == 0.5


def test_outcomes_of_victims_are_read_one_by_one():
    victims = np.arange(30)
    frame = pd.DataFrame(
        {
            "checkpoint": "a", "defence": "rci", "k": K, "n": 24, "threat": "victim/unknown",
            "attack": "transfer-pgd-20", "norm": "linf", "eps": 0.1, "eps_space": "pixel",
            "step_size": None, "purpose": "partition", "example": victims, "label": 1, "slot": 3,
            "batch": 5 * (victims + 1), "draw": victims + 1, "prediction": (victims < 4).astype(int),
        }
    )  # fmt: skip
    (found,) = repartitioned(frame.sample(frac=1, random_state=0)).values()
    assert isinstance(found, InRandomBatches) and found.k == K
    assert (found.example == victims).all() and (found.correct == (victims < 4)).all()
