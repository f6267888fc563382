import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from robustbench_coded.judge.intervals import accuracy_interval, answers_worth, clopper_pearson


@given(st.integers(1, 300), st.data())
@settings(max_examples=60, deadline=None)
def test_one_answer_each_gets_the_exact_binomial_interval(examples, data):
    right = data.draw(st.integers(0, examples))
    exact = binomtest(right, examples).proportion_ci(0.95, method="exact")
    found = accuracy_interval(
        np.arange(examples)[:, None] < right, np.arange(examples), batch_dependent=False
    )
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.images == examples


@given(
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 8),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_every_interval_has_a_width_and_holds_its_estimate(
    examples, draws, batches, accuracy, dependent, seed
):
    rng = np.random.default_rng(seed)
    correct, batch = rng.random((examples, draws)) < accuracy, rng.integers(batches, size=examples)
    found = accuracy_interval(correct, batch, batch_dependent=dependent, randomised=draws > 1)
    assert found.estimate == pytest.approx(correct.mean())
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.high - found.low > 1e-3


def test_answers_that_depend_on_their_batch_have_no_interval():
    found = accuracy_interval(np.zeros((640, 10), bool), np.arange(640) // 128, batch_dependent=True)
    assert (found.kind, found.low, found.high, found.batches) == (None, 0.0, 1.0, 5)


def test_too_few_draws_do_not_tell_whether_a_batch_shares_them():
    one, batch = np.ones((64, 1), bool), np.arange(64) // 32
    assert accuracy_interval(one, batch, batch_dependent=False).kind is None
    assert accuracy_interval(one, batch, batch_dependent=False, randomised=False).kind is not None
    assert accuracy_interval(one, np.arange(64), batch_dependent=False).kind is not None  # each has its own
    ten = np.ones((64, 10), bool)
    assert accuracy_interval(ten, batch, batch_dependent=False).kind is not None


@pytest.mark.parametrize("draws", [1, 10, 200])
def test_there_are_never_more_answers_than_images(draws):
    correct = np.random.default_rng(0).random((320, draws)) < 0.6
    found = accuracy_interval(correct, np.arange(320), batch_dependent=False)
    assert (found.low, found.high) == clopper_pearson(correct.mean() * 320, 320, 0.025)


def test_copies_of_a_draw_add_no_information():
    correct, batch = np.random.default_rng(0).random((320, 1)) < 0.6, np.arange(320)
    one, ten = (accuracy_interval(np.repeat(correct, r, 1), batch, batch_dependent=False) for r in (1, 10))
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high))


def test_a_draw_shared_by_a_batch_is_seen_although_inputs_are_answered_one_by_one():
    # One of two networks answers each of 5 x 10 batches and draws: 50 outcomes, not 640.
    picks = np.random.default_rng(0).random((5, 10)) < 0.5
    correct, batch = np.repeat(picks, 128, axis=0), np.arange(640) // 128
    found = accuracy_interval(correct, batch, batch_dependent=False)
    low, high = clopper_pearson(picks.sum(), 50, 0.025)
    assert found.high - found.low == pytest.approx(high - low, rel=0.25)
    assert answers_worth(correct, batch, 0.025) < 60


def test_the_order_of_images_and_the_names_of_batches_do_not_matter():
    rng = np.random.default_rng(0)
    correct, batch = rng.random((200, 4)) < 0.7, np.arange(200) // 32
    order = rng.permutation(200)
    one = accuracy_interval(correct, batch, batch_dependent=False)
    other = accuracy_interval(correct[order], 100 - 3 * batch[order], batch_dependent=False)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


@pytest.mark.parametrize(("examples", "draws"), [(0, 3), (3, 0)])
def test_nothing_to_average_is_refused(examples, draws):
    with pytest.raises(ValueError, match=r"expected correct \[n, draws\]"):
        accuracy_interval(np.zeros((examples, draws), bool), np.zeros(examples, int), batch_dependent=True)
