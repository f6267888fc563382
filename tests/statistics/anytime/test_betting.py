"""Hedged capital against a gambler played out one bet at a time, and simulated peeking."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from anytime_betting import betting_difference, betting_sequence, stakes

TAIL = 0.025


def richest(values, mean, above):
    """The most money that a gambler ever had who bets that the mean is above, or below, ``mean``."""
    money, most, seen, squares = 1.0, 1.0, 0.5, 0.25
    variance = 0.25
    for t, value in enumerate(values, start=1):
        stake = math.sqrt(2 * math.log(1 / TAIL) / (variance * t * math.log(t + 1)))
        worst = mean if above else 1 - mean
        stake = min(stake, 0.5 / worst) if worst > 0 else stake
        money *= 1 + (stake if above else -stake) * (value - mean)
        most = max(most, money)
        seen += value
        squares += (value - seen / (t + 1)) ** 2
        variance = squares / (t + 1)
    return most


def test_an_end_is_where_a_gambler_would_have_got_rich():
    values = np.random.default_rng(1).beta(2, 6, 60)
    low, high = betting_sequence(values, TAIL)
    assert richest(values, low[-1], above=True) >= 1 / TAIL > richest(values, low[-1] + 0.001, above=True)
    assert richest(values, high[-1], above=False) >= 1 / TAIL > richest(values, high[-1] - 0.001, above=False)
    assert (np.diff(low) >= 0).all() and (np.diff(high) <= 0).all()


def test_a_stake_is_chosen_before_its_value_is_seen():
    values = np.random.default_rng(4).random(30)
    other = np.where(np.arange(30) < 20, values, 1 - values)
    np.testing.assert_array_equal(stakes(values, TAIL)[:21], stakes(other, TAIL)[:21])
    assert (stakes(values, TAIL)[21:] != stakes(other, TAIL)[21:]).all()


def test_peeking_after_every_batch_errs_as_rarely_as_promised():
    """Batches of any kind, here those that are right or wrong as a whole and those that hardly differ."""
    rng = np.random.default_rng(2)
    for batches in (rng.random((300, 80)) < 0.2, 0.2 + rng.normal(0, 0.01, (300, 80))):
        low, high = betting_sequence(batches.astype(float), TAIL)
        assert (low > 0.2).any(axis=1).mean() <= 0.05
        assert (high < 0.2).any(axis=1).mean() <= 0.05
    assert (high - low)[:, -1].mean() < 0.15


def test_a_difference_of_equal_rows_is_centred_and_of_certain_rows_is_found():
    left, right = np.full(200, 0.9), np.full(200, 0.2)
    low, high = betting_difference(left, left, TAIL)
    assert low[-1] < 0 < high[-1] and low[-1] == pytest.approx(-high[-1])
    assert betting_difference(left, right, TAIL)[0][-1] > 0.6


def test_values_outside_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\], got 0 to 2"):
        betting_sequence(np.array([0.0, 2.0]), TAIL)
