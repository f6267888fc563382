import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, f_oneway, t

from robustbench_coded.judge.correlation import UNMEASURED, measured, pooled
from robustbench_coded.judge.intervals import clopper_pearson, clustered_interval

TAIL = 0.025
BATCH = np.repeat(np.arange(5), 128)


def flips(chance, seed=0, draws=4):
    chance = np.broadcast_to(chance, 5)
    return np.random.default_rng(seed).random((640, draws)) < np.repeat(chance, 128)[:, None]


def test_all_right_is_the_mirror_of_none_right():
    for correct in (np.zeros((640, 4), bool), flips([0.01, 0, 0.3, 0, 0])):
        there, back = (clustered_interval(table, BATCH, TAIL) for table in (correct, ~correct))
        assert there == pytest.approx((1 - back[1], 1 - back[0]), abs=1e-3)


def test_a_few_right_answers_promise_no_more_than_none():
    few = np.zeros((640, 4), bool)
    few[[3, 200, 500], 0] = True
    assert clustered_interval(few, BATCH, TAIL)[1] >= 1 - TAIL ** (1 / 5) - 1e-9


def test_whole_batches_are_one_outcome_each():
    right = flips([1, 0, 0, 0, 0])
    assert clustered_interval(right, BATCH, TAIL) == pytest.approx(clopper_pearson(1, 5, TAIL / 2))


def test_it_is_the_binomial_interval_of_as_many_answers_as_the_variance_between_batches_gives():
    correct = flips([0.3, 0.5, 0.45, 0.6, 0.35])
    means = correct.reshape(5, -1).mean(axis=1)
    mean, error = means.mean(), means.std(ddof=1) / 5**0.5
    # The standard error at which the normal distribution reaches as far as Student's does.
    reach = error * t.ppf(1 - TAIL / 2, 4)
    answers = mean * (1 - mean) / (reach / -2.2414) ** 2
    low = beta.ppf(TAIL / 2, mean * answers, (1 - mean) * answers + 1)
    high = beta.ppf(1 - TAIL / 2, mean * answers + 1, (1 - mean) * answers)
    assert clustered_interval(correct, BATCH, TAIL) == pytest.approx((low, high), abs=1e-4)


@given(st.floats(0.02, 0.98), st.floats(0, 0.3), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_a_smaller_tail_gives_an_interval_that_holds_the_larger_ones(mean, width, seed):
    rng = np.random.default_rng(seed)
    correct = flips(np.clip(rng.normal(mean, width, 5), 0, 1), seed)
    wide, narrow = (clustered_interval(correct, BATCH, tail) for tail in (0.005, 0.025))
    assert wide[0] <= narrow[0] + 1e-6 and narrow[1] <= wide[1] + 1e-6


def test_batches_that_survived_elsewhere_may_be_missing_here():
    judged = flips(0.05)
    calm, torn = [(flips(0.5, 1), BATCH)], [(flips([0.97, 0.3, 0.97, 0.3, 0.3], 1), BATCH)]
    assert clustered_interval(judged, BATCH, TAIL, pooled(calm))[1] < 0.09
    assert clustered_interval(judged, BATCH, TAIL, pooled(torn))[1] > 0.4
    # What nobody measured may be anything: 0 of 5 batches.
    assert clustered_interval(judged, BATCH, TAIL)[1] == pytest.approx(1 - TAIL ** (1 / 5))


def test_clean_rows_raise_the_correlation_and_never_lower_it():
    calm, torn = (flips(0.5), BATCH), (flips([0.9, 0.1, 0.8, 0.2, 0.9]), BATCH)
    assert pooled([], [calm]) == UNMEASURED == pooled([(flips(0.01), BATCH)], [calm])
    assert pooled([calm]).high < 0.2
    assert pooled([calm], [torn]).high > 2 * pooled([calm], [calm]).high


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5])
def test_the_correlation_lies_in_its_interval(rho):
    rng, batch, held = np.random.default_rng(0), np.repeat(np.arange(10), 128), 0
    for _ in range(100):
        spread = 1 / rho - 1 if rho else 1e9
        chance = rng.beta(spread / 2, spread / 2, 10)
        known = measured(rng.random((1280, 2)) < chance[batch][:, None], batch)
        held += known.low <= rho <= known.high
    assert held >= 93


@given(st.floats(0, 0.1), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_a_correlation_is_certain_where_analysis_of_variance_is(spread, seed):
    chance = np.clip(np.random.default_rng(seed).normal(0.5, spread, 5), 0, 1)
    correct = flips(chance, seed)
    groups = correct.mean(axis=1).reshape(5, 128)
    assert (measured(correct, BATCH).low > 0) == (f_oneway(*groups).pvalue < TAIL)


def test_draws_show_more_of_a_correlation_unless_they_are_copies():
    one = flips(0.5, draws=1)
    assert measured(np.repeat(one, 8, axis=1), BATCH) == measured(one, BATCH)
    assert measured(flips(0.5, draws=8), BATCH).high < measured(one, BATCH).high / 2


def test_one_batch_and_batches_of_one_say_nothing_of_correlation():
    half = np.arange(10)[:, None] < 5
    assert measured(half, np.zeros(10, int)) == UNMEASURED == measured(half, np.arange(10))
