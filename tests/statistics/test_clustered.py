import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_coded.statistics.correlation import UNMEASURED, Correlation, counts, measured, pooled
from robustbench_coded.statistics.intervals import clopper_pearson, clustered_interval

TAIL = 0.025
BATCH = np.repeat(np.arange(5), 128)


def flips(chance, seed=0, draws=4):
    chance = np.broadcast_to(chance, 5)
    return np.random.default_rng(seed).random((640, draws)) < np.repeat(chance, 128)[:, None]


def test_none_right_counts_batches_until_a_correlation_was_measured():
    none = np.zeros((640, 4), bool)
    assert clustered_interval(none, BATCH, TAIL) == (0, pytest.approx(1 - TAIL ** (1 / 5)))
    for rho in (0.0, 0.05, 1.0):
        effective = 640 / (1 + 127 * rho)
        found = clustered_interval(none, BATCH, TAIL, Correlation(0, rho))
        assert found == (0, pytest.approx(1 - TAIL ** (1 / effective)))


def test_all_right_is_the_mirror_of_none_right():
    correct = flips([0.01, 0, 0.3, 0, 0])
    there, back = (clustered_interval(table, BATCH, TAIL) for table in (correct, ~correct))
    assert there == pytest.approx((1 - back[1], 1 - back[0]), abs=1e-3)


def test_a_few_right_answers_promise_no_more_than_none():
    few = np.zeros((640, 4), bool)
    few[[3, 200, 500], 0] = True
    assert clustered_interval(few, BATCH, TAIL)[1] >= 1 - TAIL ** (1 / 5) - 1e-9


def test_whole_batches_are_one_outcome_each():
    right = flips([1, 0, 0, 0, 0])
    low, high = clustered_interval(right, BATCH, TAIL)
    exact = clopper_pearson(1, 5, TAIL)
    assert low <= exact[0] + 1e-9 and exact[1] - 1e-9 <= high < exact[1] + 0.1


@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 8),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_every_interval_has_a_width_and_holds_its_estimate(examples, draws, batches, accuracy, high, seed):
    rng = np.random.default_rng(seed)
    correct = rng.random((examples, draws)) < accuracy
    batch = rng.integers(batches, size=examples)
    low, top = clustered_interval(correct, batch, TAIL, Correlation(0, high))
    assert 0 <= low <= correct.mean() <= top <= 1
    assert top - low > 1e-3


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


def test_a_correlation_is_measured_on_the_draws_too():
    independent, copied = flips(0.5, draws=8), np.repeat(flips(0.5, draws=1), 8, axis=1)
    assert counts(independent, BATCH)[1] == pytest.approx(np.full(5, 128 * 8.0), rel=0.15)
    assert counts(copied, BATCH)[1] == pytest.approx(np.full(5, 128.0), rel=0.05)
    assert measured(copied, BATCH).low == 0
