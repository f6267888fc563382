"""The interval of an accuracy whose outcomes come in batches.

    clustered_interval(correct, batch, tail, correlation) -> (low, high)

Three intervals, each too short somewhere, together err at most by ``tail`` at either end on the populations
of docs/numbers.md, where they are compared:

* the beta-binomial likelihood interval (`betabinomial.py`): honest for skewed batches near 0 and 1, where the
  spread of the batches that were seen says little about those that were not;
* Clopper and Pearson's with the effective number of outcomes that the variance between batches gives (Korn
  and Graubard, Survey Methodology 24, 1998) and Student's factor: honest for any distribution of batches,
  given enough of them. An accuracy below 10 or above 90% takes the largest correlation that the subject's
  other rows allow where these leave no doubt that there is some: a batch that survived as a whole may just be
  missing;
* what 0 of n leaves, n being the effective number of outcomes at the largest correlation that the subject's
  rows allow, and the number of batches where none of them measures it, this one included: a few right answers
  must not promise more than none would.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from robustbench_coded.statistics.betabinomial import mean_interval
from robustbench_coded.statistics.correlation import CENTRAL, UNMEASURED, Correlation, counts, measured
from robustbench_coded.statistics.remembered import remembered
from robustbench_coded.statistics.variance import between_batches

# Batches whose means agree better than independent examples would are lucky, not informative: a variance of
# less than half the independent one is not believed. Half, not all of it, because at five batches the
# Student factor already pays for the luck.
LEAST_DESIGN_EFFECT = 0.5


def clopper_pearson(successes: float, trials: float, tail: float) -> tuple[float, float]:
    """Exact binomial interval; real-valued counts are allowed, 0 <= successes <= trials and trials > 0."""
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - tail)) if failures > 0 else 1.0
    return low, high


def student_factor(degrees: float, tail: float) -> float:
    """By how much a variance estimated with few degrees of freedom must grow to use normal quantiles."""
    if degrees == np.inf:
        return 1.0
    return (float(stdtrit(degrees, 1 - tail)) / -float(ndtri(tail))) ** 2


@remembered
def clustered_interval(
    correct: NDArray[np.bool_],
    batch: NDArray[np.integer],
    tail: float,
    correlation: Correlation = UNMEASURED,
) -> tuple[float, float]:
    """Interval for the population accuracy, over examples, batches and draws.

    Args:
        correct: [examples, draws], whether each answer is right. batch: [examples].
        tail: with which probability each end may err, in (0, 0.5).
        correlation: of two outcomes of a batch, as the other rows of the subject show it (`pooled`).
    """
    right, trials, sizes = counts(correct, batch)
    estimate = float(correct.mean())
    known = correlation
    if correlation.high >= 1 and CENTRAL[0] <= estimate <= CENTRAL[1]:
        known = measured(correct, batch)
    least = clopper_pearson(0, known.effective(sizes), tail)[1]
    if estimate in (0.0, 1.0):
        return (0.0, least) if estimate == 0 else (1 - least, 1.0)
    if len(sizes) == 1:
        return clopper_pearson(estimate, 1, tail)
    ends = [
        mean_interval(right, trials, tail, _most_correlated(correct, batch, correlation)),
        _by_variance(correct, batch, sizes, tail, correlation),
        (min(1 - least, estimate), max(least, estimate)),
    ]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _most_correlated(
    correct: NDArray[np.bool_], batch: NDArray[np.integer], correlation: Correlation
) -> float:
    """The largest correlation to reckon with: other rows count where the row itself shows little of it."""
    if correlation.high >= 1 or CENTRAL[0] <= correct.mean() <= CENTRAL[1]:
        return 1.0
    return 1.0 if measured(correct, batch).low > correlation.high else correlation.high


def _by_variance(
    correct: NDArray[np.bool_],
    batch: NDArray[np.integer],
    sizes: NDArray[np.integer],
    tail: float,
    correlation: Correlation,
) -> tuple[float, float]:
    means = correct.mean(axis=1, dtype=np.float64)
    estimate = float(means.mean())
    binomial = estimate * (1 - estimate)
    independent = max(float(means.var(ddof=1)) / len(means), binomial / correct.size)
    spread = between_batches(correct, batch)
    variance = max(spread.variance * student_factor(spread.degrees, tail), LEAST_DESIGN_EFFECT * independent)
    effective = max(binomial / variance, spread.least)
    if correlation.low > 0 and not CENTRAL[0] <= estimate <= CENTRAL[1]:
        effective = min(effective, correlation.effective(sizes))
    return clopper_pearson(estimate * effective, effective, tail)
