"""The beta-binomial mixture against its closed forms, an independent integral, and simulated peeking."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from robustbench_coded.judge.anytime import log_ratio, mixture_interval
from robustbench_coded.judge.intervals import clopper_pearson

TAIL = 0.025


@pytest.mark.parametrize(("right", "trials", "p0"), [(0, 20, 0.1), (3, 40, 0.2), (30, 40, 0.9), (1, 1, 1.0)])
def test_the_ratio_is_the_likelihood_averaged_below_over_the_likelihood_at_p0(right, trials, p0):
    prior = beta(0.5, 0.5)

    def weighted(p):
        return p**right * (1 - p) ** (trials - right) * prior.pdf(p)

    averaged = quad(weighted, 0, p0, limit=200)[0] / prior.cdf(p0)
    expected = np.log(averaged / (p0**right * (1 - p0) ** (trials - right)))
    assert log_ratio(np.float64(right), np.float64(trials), np.float64(p0)) == pytest.approx(
        expected, abs=1e-5
    )


def test_the_ratio_has_mean_one_at_the_truth():
    """Over all that 12 answers can be: exactly what Ville's inequality asks for."""
    from scipy.stats import binom

    counts = np.arange(13.0)
    for truth in (0.05, 0.5, 0.8):
        ratio = np.exp(log_ratio(counts, np.full(13, 12.0), np.full(13, truth)))
        assert binom.pmf(counts, 12, truth) @ ratio == pytest.approx(1)


def test_ends_mirror_each_other_and_hold_the_fixed_interval():
    right, trials = np.array([0, 1, 7, 64, 128]), np.array([128] * 5)
    low, high = mixture_interval(right, trials, TAIL)
    np.testing.assert_allclose(1 - mixture_interval(trials - right, trials, TAIL)[0], high)
    for s, below, above in zip(right, low, high):
        exact = clopper_pearson(int(s), 128, TAIL)
        assert below <= exact[0] and above >= exact[1]
    assert high[0] == pytest.approx(0.03507, abs=1e-5)
    assert low[0] == 0 and high[-1] == 1


def test_peeking_after_every_answer_errs_as_rarely_as_promised():
    """2.5% at each end, of 400 runs at most 5% by chance; the fixed interval would err in one of seven."""
    answers = np.random.default_rng(3).random((400, 300)) < 0.1
    counts = np.stack([answers.cumsum(axis=1), np.broadcast_to(np.arange(1, 301), answers.shape)], axis=-1)
    (right, trials), place = _distinct(counts)
    low, high = mixture_interval(right, trials, TAIL)
    assert (low > 0.1)[place].any(axis=1).mean() <= 0.05
    assert (high < 0.1)[place].any(axis=1).mean() <= 0.05
    fixed = beta.ppf(TAIL, np.maximum(right, 1e-9), trials - right + 1)
    assert (fixed > 0.1)[place].any(axis=1).mean() > 0.1


def _distinct(counts):
    """The distinct pairs of [runs, answers, 2], and which of them is at each place [runs, answers]."""
    pairs, place = np.unique(counts.reshape(-1, 2), axis=0, return_inverse=True)
    return pairs.T, place.reshape(counts.shape[:2])


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="expected 0 <= right <= trials"):
        mixture_interval(3, 2, TAIL)
