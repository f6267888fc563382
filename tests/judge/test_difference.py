import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_coded.judge.correlation import Correlation
from robustbench_coded.judge.paired import clustered_difference

TAIL = 0.025
BATCH = np.repeat(np.arange(5), 128)
UNSEEN = 1 - TAIL ** (1 / 5)  # what 0 of 5 batches leaves


def flips(chance, seed, draws=4):
    return np.random.default_rng(seed).random((640, draws)) < np.broadcast_to(chance, 640)[:, None]


def test_nothing_less_nothing_leaves_what_0_of_n_leaves_on_each_side():
    none = np.zeros((640, 4), bool)
    found = clustered_difference(none, none, BATCH, TAIL)
    assert found == pytest.approx((-UNSEEN, UNSEEN))
    # A base model that answers its inputs one by one has 640 outcomes, and never any other right.
    found = clustered_difference(none, none[:, :1], BATCH, TAIL, right_clustered=False)
    assert found == pytest.approx((-(1 - TAIL ** (1 / 640)), UNSEEN))


def test_equal_outcomes_differ_by_0_of_n_effective_outcomes():
    same = flips(0.5, 0)
    found = clustered_difference(same, same, BATCH, TAIL, correlation=Correlation(0.0, 0.05))
    unseen = 1 - TAIL ** (1 / (640 / (1 + 127 * 0.05)))
    assert found == pytest.approx((-unseen, unseen))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_exchanging_the_rows_mirrors_the_interval(first, second, seed):
    one, other = flips(first, seed), flips(second, seed + 1)
    there, back = clustered_difference(one, other, BATCH, TAIL), clustered_difference(other, one, BATCH, TAIL)
    estimate = one.mean() - other.mean()
    assert -1 <= there[0] <= estimate <= there[1] <= 1
    assert there[1] - there[0] > 1e-3
    assert there == pytest.approx((-back[1], -back[0]), abs=1e-6)


def test_pairing_cancels_what_both_rows_share():
    shared = np.repeat(np.random.default_rng(0).normal(0, 0.15, 5), 128)
    paired = clustered_difference(flips(0.5 + shared, 1), flips(0.4 + shared, 2), BATCH, TAIL)
    turned = clustered_difference(flips(0.5 + shared, 1), flips(0.4 - shared, 2), BATCH, TAIL)
    assert paired[1] - paired[0] < 0.1 < 0.25 < turned[1] - turned[0]
