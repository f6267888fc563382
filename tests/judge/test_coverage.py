"""A short, fixed-seed run of benchmarks/errors/coverage.py, where the full figures come from."""

import numpy as np
import pytest

from benchmarks.errors import coverage as benchmark

SIMULATIONS, MOST = 300, 0.053  # by chance: 2.5% a figure, exceeded with probability 0.2%


@pytest.mark.parametrize("kind", benchmark.KINDS, ids=lambda kind: kind.__name__)
def test_each_end_errs_as_rarely_as_promised(kind):
    cells = list(kind(np.random.default_rng(1), SIMULATIONS))
    kept = [cell for cell in cells if not cell.beyond]
    assert len(kept) > 5 and max(max(cell.lower, cell.upper) for cell in kept) <= MOST


def test_more_answers_than_images_would_be_seen_to_fail_where_few_images_are_odd():
    """The interval of a mean of draws, with as many answers as their variance says."""
    rng, n, draws = np.random.default_rng(0), 256, 50
    p = benchmark.means_of(rng, 2000, n, 0.01, 0.0, 0.9)
    mean = rng.binomial(draws, p) / draws
    estimate = mean.mean(axis=1)
    worth = estimate * (1 - estimate) / (mean.var(axis=1, ddof=1) / n)
    low, _ = benchmark.exact(estimate * worth, worth, benchmark.TAIL)
    assert (low > 0.891).mean() > 0.06
    low, _ = benchmark.exact(estimate * n, n, benchmark.TAIL)
    assert (low > 0.891).mean() < 0.001


def test_what_chance_alone_would_give_grows_with_the_number_of_figures():
    assert benchmark.by_chance(1, 10_000) == pytest.approx(0.025, abs=0.0002)
    assert 0.028 < benchmark.by_chance(200, 10_000) < 0.031
