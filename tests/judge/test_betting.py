"""Bets on means: certain ends, closed forms, and what may never happen."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_coded.judge.anytime import CAPITAL, SHARES, upper_end, values_needed

TAIL = 0.025


def test_the_capital_is_divided_and_nobody_can_lose_more_than_it():
    assert CAPITAL.sum() == pytest.approx(1) and (CAPITAL > 0).all()
    assert SHARES[0] == 1 and (SHARES > 0).all() and (SHARES <= 1).all()


@pytest.mark.parametrize("n", [1, 20, 150, 1000])
def test_all_wrong_lies_between_one_bet_and_half_of_it(n):
    # The bet c = 1 alone makes it 1 - tail^(1/n); with half of the capital it is 1 - (tail / 2)^(1/n).
    found = upper_end(np.zeros(n), TAIL)
    assert 1 - TAIL ** (1 / n) < found < 1 - (TAIL / 2) ** (1 / n)


@pytest.mark.parametrize(("left", "bar"), [(0.0, 0.03), (0.001, 0.03), (0.01, 0.03), (0.0, 0.2)])
def test_as_many_values_as_are_needed_and_one_less(left, bar):
    needed = values_needed(left, bar, TAIL)
    assert upper_end(np.full(needed, left), TAIL) < bar <= upper_end(np.full(needed - 1, left), TAIL)


def test_150_settle_a_margin_of_3_points_and_nothing_settles_what_is_above_it():
    assert values_needed(0.0, 0.03, TAIL) <= 150
    assert values_needed(0.03, 0.03, TAIL) is None


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40), st.integers(0), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_a_larger_value_never_lowers_the_end(values, index, share):
    values = np.array(values, dtype=np.float64)
    more = values.copy()
    place = index % len(values)
    more[place] += share * (1 - more[place])
    before, after = upper_end(values, TAIL), upper_end(more, TAIL)
    assert values.mean() - 1e-9 <= before <= after + 1e-9 <= 1 + 2e-9


def test_more_right_answers_move_the_end_continuously():
    # The case that began it: 0 of 256 batches, then a few of 32,768 answers.
    answers = np.zeros((256, 128))
    ends = []
    for right in range(33):
        answers.ravel()[:right] = 1
        ends.append(upper_end(answers.mean(axis=1), TAIL))
    assert ends == sorted(ends) and ends[-1] < 0.03
    assert max(np.diff(ends)) < 0.003


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.5], [0.0, 1.0], [-1.0, 1.0]])
def test_degenerate_values_have_an_end(values):
    end = upper_end(np.array(values), TAIL)
    assert math.isfinite(end) and np.mean(values) <= end <= 1


def test_it_ever_errs_at_most_as_often_as_it_says():
    """However often it is looked at: with optional stopping at the first error."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        # Whole batches that survive: the hardest for intervals by variance.
        batches = (rng.random(120) < 0.05).astype(float)
        wrong += any(upper_end(batches[:n], 0.1) < 0.05 for n in (20, 40, 60, 80, 100, 120))
    assert wrong <= 0.1 * 300


def test_values_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="expected one value or more, at most 1"):
        upper_end(np.array([1.5]), TAIL)
    with pytest.raises(ValueError, match="got 0 values"):
        upper_end(np.array([]), TAIL)
