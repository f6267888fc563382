"""Intervals for the mean of a few batch accuracies that could have been chosen, for `coverage.py
--candidates`.

without_unseen is the chosen one without what 0 of n leaves. betting and gaffke assume nothing of batches but
that they are independent and lie in [0, 1].
"""

import numpy as np
from coverage_populations import Evaluation
from numpy.typing import NDArray

from robustbench_coded.judge.anytime import upper_end
from robustbench_coded.judge.intervals import OF_BATCHES, clopper_pearson, student_factor
from robustbench_coded.judge.variance import between_batches

TAIL = 0.025
Batch = NDArray[np.int64]


def without_unseen(evaluation: Evaluation, batch: Batch) -> tuple[float, float]:
    """Korn and Graubard's effective number alone; the number of batches where every or no answer is right."""
    correct, tail = evaluation.judged, TAIL * OF_BATCHES
    estimate, spread = float(correct.mean()), between_batches(correct, batch)
    if estimate in (0, 1):
        return clopper_pearson(estimate * spread.least, spread.least, TAIL)
    variance = max(
        spread.variance * student_factor(spread.degrees, tail), estimate * (1 - estimate) / correct.size / 2
    )
    effective = max(estimate * (1 - estimate) / variance, spread.least)
    return clopper_pearson(estimate * effective, effective, tail)


def batch_means(evaluation: Evaluation, batch: Batch) -> NDArray[np.float64]:
    return np.bincount(batch, weights=evaluation.judged.mean(axis=1)) / np.bincount(batch)


def betting(evaluation: Evaluation, batch: Batch) -> tuple[float, float]:
    """The bets of random batches, over disjoint ones (arXiv 2010.09686, section 4)."""
    values = batch_means(evaluation, batch)
    return -upper_end(-values, TAIL, 0.0), upper_end(values, TAIL)


def gaffke(evaluation: Evaluation, batch: Batch) -> tuple[float, float]:
    """Gaffke's bound (arXiv 1905.06208 names it): Clopper and Pearson's, for any values in [0, 1].

    The ordered values, and the end of the range beyond them, are weighted by uniform spacings; the bound is a
    quantile of the weighted mean. By 2,000 draws of the weights.
    """
    values = batch_means(evaluation, batch)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(values) + 1), 2000)
    upper = np.quantile(weights @ np.append(np.sort(values), 1.0), 1 - TAIL)
    lower = np.quantile(weights @ np.append(0.0, np.sort(values)), TAIL)
    return float(lower), float(upper)
