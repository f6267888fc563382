"""Sampling without replacement against every order in which a small set can be drawn."""

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from anytime_finite import finite_interval

TAIL = 0.025


@pytest.mark.parametrize("right", [0, 3, 6, 12])
def test_over_all_orders_of_a_small_set_each_end_errs_as_rarely_as_promised(right):
    size = 12
    ends = {
        (s, n): finite_interval(s, n, size, 0.1)
        for n in range(size + 1)
        for s in range(min(n, right) + 1)
        if right - s <= size - n
    }
    above = below = total = 0
    for places in combinations(range(size), right):
        drawn = np.cumsum(np.isin(np.arange(size), places))
        seen = [ends[int(s), n] for n, s in enumerate(drawn, start=1)]
        total += 1
        above += any(low > right / size + 1e-12 for low, _ in seen)
        below += any(high < right / size - 1e-12 for _, high in seen)
    assert above / total <= 0.1 and below / total <= 0.1


def test_it_closes_when_all_are_drawn_and_says_nothing_before():
    assert finite_interval(37, 100, 100, TAIL) == (0.37, 0.37)
    assert finite_interval(0, 0, 100, TAIL) == (0, 1)
    low, high = finite_interval(40, 99, 100, TAIL)
    assert (low, high) == (0.40, 0.41)


def test_of_a_large_set_it_is_nearly_that_of_a_population():
    from scipy.integrate import quad

    # Uniform prior, none of 50 right: the ratio at p0 is (1 - (1 - p0)^51) / (51 p0 (1 - p0)^50).
    high = finite_interval(0, 50, 200_000, TAIL)[1]
    averaged = quad(lambda p: (1 - p) ** 50, 0, high)[0] / high
    assert averaged / (1 - high) ** 50 == pytest.approx(1 / TAIL, rel=0.01)


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="expected 0 <= right <= trials <= size, got 3, 2, 10"):
        finite_interval(3, 2, 10, TAIL)
