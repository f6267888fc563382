import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binomtest

from robustbench_coded.judge.correlation import Correlation
from robustbench_coded.judge.intervals import accuracy_interval, clopper_pearson, over_draws
from robustbench_coded.judge.variance import SharedDraws


@given(st.integers(1, 300), st.data())
@settings(max_examples=60, deadline=None)
def test_deterministic_independent_outcomes_get_the_exact_binomial_interval(examples, data):
    right = data.draw(st.integers(0, examples))
    exact = binomtest(right, examples).proportion_ci(0.95, method="exact")
    found = accuracy_interval(
        np.arange(examples)[:, None] < right, np.arange(examples), batch_dependent=False
    )
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


@given(
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 8),
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_every_interval_has_a_width_and_holds_its_estimate(
    examples, draws, batches, accuracy, high, dependent, seed
):
    rng = np.random.default_rng(seed)
    correct = rng.random((examples, draws)) < accuracy
    batch, known = rng.integers(batches, size=examples), Correlation(0, high)
    found = accuracy_interval(correct, batch, batch_dependent=dependent, correlation=known)
    assert found.estimate == pytest.approx(correct.mean())
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.high - found.low > 1e-3


def test_none_right_counts_batches_where_they_depend_and_examples_where_not():
    none, batch = np.zeros((640, 10), bool), np.arange(640) // 128
    found = accuracy_interval(none, batch, batch_dependent=True)
    assert found.low == 0
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 5))
    measured = accuracy_interval(none, batch, batch_dependent=True, correlation=Correlation(0, 0.05))
    assert measured.high == pytest.approx(1 - 0.025 ** (1 / (640 / (1 + 127 * 0.05))))
    alone = accuracy_interval(none, batch, batch_dependent=False)
    assert alone.high == pytest.approx(1 - 0.025 ** (1 / 640))


def test_copies_of_a_draw_add_no_information():
    rng = np.random.default_rng(0)
    correct, batch = rng.random((320, 1)) < 0.6, np.arange(320) // 32
    for dependent in (True, False):
        one, ten = (
            accuracy_interval(np.repeat(correct, r, 1), batch, batch_dependent=dependent) for r in (1, 10)
        )
        assert (ten.low, ten.high) == pytest.approx((one.low, one.high))


def test_independent_draws_of_an_independent_defence_do_add_information():
    correct = np.random.default_rng(0).random((320, 10)) < 0.6
    found = accuracy_interval(correct, np.arange(320), batch_dependent=False)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 3200), rel=0.1)


def test_a_draw_shared_by_a_batch_is_seen_although_inputs_are_independent():
    # One of two networks answers each of 5 x 10 batches and draws: 50 outcomes, not 6400.
    picks = np.random.default_rng(0).random((5, 10)) < 0.5
    correct, batch = np.repeat(picks, 128, axis=0), np.arange(640) // 128
    found = accuracy_interval(correct, batch, batch_dependent=False)
    low, high = clopper_pearson(picks.sum(), 50, 0.025)
    assert found.high - found.low == pytest.approx(high - low, rel=0.25)


def test_one_batch_says_little_and_says_so():
    found = accuracy_interval(np.arange(128)[:, None] < 64, np.zeros(128, int), batch_dependent=True)
    assert found.low < 0.02 and found.high > 0.98


def test_the_order_of_examples_and_the_names_of_batches_do_not_matter():
    rng = np.random.default_rng(0)
    correct, batch = rng.random((200, 4)) < 0.7, np.arange(200) // 32
    order = rng.permutation(200)
    one = accuracy_interval(correct, batch, batch_dependent=True)
    other = accuracy_interval(correct[order], 100 - 3 * batch[order], batch_dependent=True)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


@pytest.mark.parametrize(("examples", "draws"), [(0, 3), (3, 0)])
def test_nothing_to_average_is_refused(examples, draws):
    with pytest.raises(ValueError, match=r"expected correct \[n, draws\]"):
        accuracy_interval(np.zeros((examples, draws), bool), np.zeros(examples, int), batch_dependent=True)


def test_over_draws_of_fixed_batches_images_say_nothing_and_draws_all():
    batch = np.repeat([0, 1], 50)
    always = np.repeat(np.arange(100) < 40, 10).reshape(100, 10)  # the same images are right in every draw
    low, high = over_draws(always, batch)
    never = clopper_pearson(0, 1000, 0.025)[1]  # 0 of 1,000 answers moved
    assert (low, high) == pytest.approx((0.4 - never, 0.4 + never))
    # Where draws are known to be shared by a batch, they are worth as many answers as there are of them.
    low, high = over_draws(always, batch, SharedDraws(1.0, 18))
    assert (low, high) == pytest.approx((0.4 - (out := clopper_pearson(0, 20, 0.025)[1]), 0.4 + out))
    # Everything right or wrong by the draw of its batch: 20 coins.
    coins = np.repeat(np.random.default_rng(0).random((2, 10)) < 0.5, 50, axis=0)
    low, high = over_draws(coins, batch)
    assert 0.35 < high - low < 0.6
    assert over_draws(np.zeros((100, 10), dtype=bool), batch)[0] == 0


def test_over_draws_hold_the_truth_of_these_inputs():
    """Logits of images plus one of each draw: the accuracy over draws is a sum over quadrature points."""
    rng, batch = np.random.default_rng(1), np.repeat([0, 1], 64)
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    missed = []
    for _ in range(400):
        images, moved = 2 * rng.standard_normal((128, 1)) - 2, rng.standard_normal((2, 10))
        correct = rng.random((128, 10)) < expit(images + moved[batch])
        truth = float((expit(images + points) @ weights).mean() / weights.sum())
        low, high = over_draws(correct, batch)
        missed.append((low > truth, high < truth))
    assert np.all(np.mean(missed, axis=0) < 0.05)  # 2.5% each; 400 evaluations: 0.8 points
    assert np.sum(missed) > 2  # a wider one would be no use
