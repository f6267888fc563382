"""Intervals for the mean of a few batch accuracies that could have been chosen, for `coverage.py
--candidates`.

by_variance and by_likelihood are the two parts of the chosen one. gaffke and betting assume nothing of
batches but that they are independent and lie in [0, 1].
"""

import numpy as np
from coverage_populations import Evaluation
from numpy.typing import NDArray

from robustbench_coded.statistics import correlation
from robustbench_coded.statistics.correlation import counts
from robustbench_coded.statistics.intervals import clopper_pearson, student_factor
from robustbench_coded.statistics.variance import between_batches

TAIL = 0.025
Batch = NDArray[np.int64]


def by_variance(evaluation: Evaluation, batch: Batch) -> tuple[float, float]:
    """Korn and Graubard's effective number alone; the number of batches where every or no answer is right."""
    correct = evaluation.judged
    estimate, spread = float(correct.mean()), between_batches(correct, batch)
    if estimate in (0, 1):
        return clopper_pearson(estimate * spread.least, spread.least, TAIL)
    variance = max(
        spread.variance * student_factor(spread.degrees, TAIL), estimate * (1 - estimate) / correct.size / 2
    )
    effective = max(estimate * (1 - estimate) / variance, spread.least)
    return clopper_pearson(estimate * effective, effective, TAIL)


def by_likelihood(evaluation: Evaluation, batch: Batch) -> tuple[float, float]:
    """The beta-binomial likelihood alone."""
    right, trials, sizes = counts(evaluation.judged, batch)
    if right.sum() in (0, trials.sum()):
        return clopper_pearson(len(sizes) * float(right.sum() > 0), len(sizes), TAIL)
    return correlation.mean_interval(right, trials, TAIL)


def gaffke(evaluation: Evaluation, batch: Batch) -> tuple[float, float]:
    """Gaffke's bound (arXiv 1905.06208 names it): Clopper and Pearson's, for any values in [0, 1].

    The ordered values, and the end of the range beyond them, are weighted by uniform spacings; the bound is a
    quantile of the weighted mean. By 2,000 draws of the weights.
    """
    values = np.bincount(batch, weights=evaluation.judged.mean(axis=1)) / np.bincount(batch)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(values) + 1), 2000)
    upper = np.quantile(weights @ np.append(np.sort(values), 1.0), 1 - TAIL)
    lower = np.quantile(weights @ np.append(0.0, np.sort(values)), TAIL)
    return float(lower), float(upper)


def betting(evaluation: Evaluation, batch: Batch) -> tuple[float, float]:
    """Hedged capital with predictable plug-in bets (Waudby-Smith and Ramdas, arXiv 2010.09686, section 4)."""
    values = np.bincount(batch, weights=evaluation.judged.mean(axis=1)) / np.bincount(batch)
    count = len(values)
    steps = np.arange(1, count + 1)
    means = (0.5 + np.cumsum(values)) / (steps + 1)
    variances = (0.25 + np.cumsum((values - means) ** 2)) / (steps + 1)
    before = np.append(0.25, variances[:-1])
    bets = np.sqrt(2 * np.log(1 / TAIL) / (count * before))
    grid = np.linspace(0, 1, 1001)
    with np.errstate(divide="ignore"):
        up = np.minimum(bets[:, None], 0.5 / grid)
        down = np.minimum(bets[:, None], 0.5 / (1 - grid))
        apart = values[:, None] - grid
        gained, lost = np.log1p(up * apart).sum(axis=0), np.log1p(-down * apart).sum(axis=0)
    kept = grid[np.maximum(gained, lost) + np.log(0.5) < np.log(1 / (2 * TAIL))]
    middle = float(values.mean())
    return (float(kept.min()), float(kept.max())) if len(kept) else (middle, middle)
