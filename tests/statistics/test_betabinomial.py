import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import betabinom, poisson

from robustbench_coded.statistics.correlation import correlation_interval, mean_interval, threshold

RIGHT, TRIALS = np.array([12.0, 30.0, 3.0, 22.0, 17.0, 8.0]), np.array([40.0, 40.0, 40.0, 40.0, 30.0, 16.0])


def log_likelihood(mean, theta):
    return betabinom.logpmf(RIGHT, TRIALS, mean * theta, (1 - mean) * theta).sum()


def profiled(mean):
    found = minimize_scalar(
        lambda log_theta: -log_likelihood(mean, np.exp(log_theta)), bounds=(-6, 11), method="bounded"
    )
    return -found.fun, np.exp(found.x)


def test_the_interval_is_the_likelihood_ratio_interval_found_by_plain_optimisation():
    best = minimize_scalar(lambda mean: -profiled(mean)[0], bounds=(0.01, 0.99), method="bounded")
    top, theta = -best.fun, profiled(best.x)[1]
    estimate = RIGHT.sum() / TRIALS.sum()
    worth = (TRIALS * (1 + theta) / (TRIALS + theta)).sum()
    low, high = mean_interval(RIGHT, TRIALS, 0.025)
    for end, successes, bracket in (
        (low, worth * (1 - estimate), (0.01, best.x)),
        (high, worth * estimate, (best.x, 0.99)),
    ):
        needed = top - threshold(6, successes, 0.025) / 2
        exact = brentq(lambda mean, bar: profiled(mean)[0] - bar, *bracket, args=(needed,))
        assert end == pytest.approx(exact, abs=0.004)


def test_the_threshold_is_students_where_there_is_much_and_poissons_at_nothing():
    # Poisson: at 0 the exact bound is -log(tail), and twice the log likelihood loses twice that.
    assert threshold(10_000, 0.0, 0.025) == pytest.approx(-2 * np.log(0.025), rel=1e-3)
    one = brentq(lambda mean: poisson.cdf(1, mean) - 0.025, 1, 20)
    assert threshold(10_000, 1.0, 0.025) == pytest.approx(2 * (one - 1 - np.log(one)), rel=1e-3)
    assert threshold(10_000, 1e5, 0.025) == pytest.approx(1.96**2, rel=0.01)
    # B normal values with mean 0 and variance 1 (ddof 0): twice the log likelihood loses B log(1 + m^2).
    student = 2.776 / np.sqrt(4)  # the mean that Student's interval reaches, in such units
    assert threshold(5, 1e5, 0.025) == pytest.approx(5 * np.log(1 + student**2), rel=0.01)


def test_independent_batches_get_the_binomial_likelihood_and_equal_ones_the_batch_count():
    rng = np.random.default_rng(0)
    right = rng.binomial(128, 0.3, 400).astype(float)
    low, high = mean_interval(right, np.full(400, 128.0), 0.025)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.21 / 51200), rel=0.2)
    whole = 128.0 * (np.arange(20) < 8)
    low, high = mean_interval(whole, np.full(20, 128.0), 0.025)
    assert (low, high) == pytest.approx((0.19, 0.64), abs=0.03)  # Clopper and Pearson's for 8 of 20


def test_a_cap_on_the_correlation_shortens_the_interval_of_a_row_near_its_end():
    right, trials = np.array([1.0, 0, 0, 0, 0]), np.full(5, 128.0)
    free, capped = (mean_interval(right, trials, 0.025, cap) for cap in (1.0, 0.01))
    assert capped[1] < 0.02 < free[1]


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5])
def test_the_correlation_lies_in_its_interval(rho):
    rng, held = np.random.default_rng(0), 0
    for _ in range(100):
        spread = 1 / rho - 1 if rho else 1e9
        right = rng.binomial(128, rng.beta(spread / 2, spread / 2, 10)).astype(float)
        low, high = correlation_interval(right, np.full(10, 128.0), 0.025)
        held += low <= rho <= high
    assert held >= 93


def test_one_batch_says_nothing_of_correlation():
    assert correlation_interval(np.array([3.0]), np.array([10.0]), 0.025) == (0.0, 1.0)


def test_many_batches_are_counted_in_groups_without_moving_the_interval(monkeypatch):
    rng = np.random.default_rng(0)
    right, trials = rng.binomial(128, rng.beta(2, 6, 200)).astype(float), np.full(200, 128.0)
    grouped = mean_interval(right, trials, 0.025)
    monkeypatch.setattr("robustbench_coded.statistics.correlation._MOST_GROUPS", 1000)
    assert grouped == pytest.approx(mean_interval(right, trials, 0.025), abs=0.001)
