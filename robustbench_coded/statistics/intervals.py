"""95% intervals for an accuracy, for each way in which outcomes can depend on one another.

The truth aimed at is the population accuracy over examples, batches and draws. Each end errs with
probability 2.5%, unless another is asked for; docs/numbers.md has a table of how often
(`benchmarks/coverage.py`).

* Outcomes of a batch-dependent defence come in batches. Three intervals, each too short somewhere, together
  err at most by ``tail`` at either end on the populations of docs/numbers.md: the beta-binomial likelihood
  interval (`mean_interval`), honest for skewed batches near 0 and 1, where the spread of the batches that
  were seen says little about those that were not; Clopper and Pearson's with the effective number of outcomes
  that the variance between batches gives (Korn and Graubard, Survey Methodology 24, 1998) and Student's
  factor, honest for any distribution of batches, given enough of them; and what 0 of n leaves, n being the
  effective number of outcomes at the largest correlation that the subject's rows allow, and the number of
  batches where none of them measures it, this one included: a few right answers must not promise more than
  none would. An accuracy below 10 or above 90% takes the largest correlation that the subject's other rows
  allow where these leave no doubt that there is some: a batch that survived as a whole may just be missing.
* A defence that treats its inputs independently has the exact binomial interval of its examples. With draws
  it is Clopper and Pearson's with the effective number of outcomes that the variance between examples gives,
  and what a batch's shared draws add to it. A row with few draws takes that from others (`variance.py`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from robustbench_coded.statistics.correlation import (
    CENTRAL,
    UNMEASURED,
    Correlation,
    counts,
    mean_interval,
    measured,
    remembered,
)
from robustbench_coded.statistics.variance import (
    NOT_SHARED,
    SharedDraws,
    between_batches,
    between_examples,
    shared_by_draws,
)

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


TAIL = 0.025  # on either side of a 95% interval


@dataclass(frozen=True)
class Interval:
    """An accuracy and its 95% interval, as fractions: 0 <= low <= estimate <= high <= 1 and low < high."""

    estimate: float
    low: float
    high: float
    others: tuple[float, float] | None = None
    """For other images, where ``low`` and ``high`` are about these images in random batches."""


def accuracy_interval(
    correct: NDArray[np.bool_],
    batch: NDArray[np.integer],
    *,
    batch_dependent: bool,
    correlation: Correlation = UNMEASURED,
    shared: SharedDraws = NOT_SHARED,
    tail: float = TAIL,
) -> Interval:
    """Mean of ``correct`` and its interval.

    Args:
        correct: [examples, draws], whether each answer is right; at least one of each.
        batch: [examples], the batch each example was answered in. For a defence that treats inputs
            independently it says which examples shared a draw of the defence's randomness.
        batch_dependent: whether an answer may depend on the co-batched inputs; the batch is the unit then.
        correlation: of two outcomes of a batch, as the rows of the subject show it; of a batch-dependent
            defence only.
        shared: what outcomes of a batch and draw have in common, as the rows of the subject show it; of a
            randomised defence that answers its inputs one by one.
        tail: with which probability each end may err, in (0, 0.5).

    Raises:
        ValueError: shapes do not fit or there is nothing to average.
    """
    examples = len(correct)
    if batch.shape != (examples,) or not correct.size:
        raise ValueError(f"expected correct [n, draws] and batch [n], got {correct.shape} and {batch.shape}")
    right = int(np.count_nonzero(correct))
    estimate = right / correct.size
    if batch_dependent:
        low, high = clustered_interval(correct, batch, tail, correlation)
        return Interval(estimate, low, high)
    common = shared_by_draws(shared, correct.shape[1], batch)
    # Independent outcomes that the answers are worth, as far as they show no spread themselves.
    worth = 1 / (1 / examples + common) if common else examples
    never, always = clopper_pearson(0, worth, tail)[1], clopper_pearson(worth, worth, tail)[0]
    if right in (0, correct.size):
        return Interval(estimate, 0.0, never) if right == 0 else Interval(estimate, always, 1.0)
    measured = between_examples(correct, batch)
    means = correct.mean(axis=1, dtype=np.float64)
    binomial = estimate * (1 - estimate)
    independent = max(float(means.var(ddof=1)) / examples if examples > 1 else 0.0, binomial / correct.size)
    variance = max(
        measured.variance * student_factor(measured.degrees, tail), LEAST_DESIGN_EFFECT * independent
    )
    if common:
        of_shared = common * student_factor(shared.degrees, tail)
        variance = max(variance, float(means.var(ddof=1)) / examples + binomial * of_shared)
    effective = max(binomial / variance, min(measured.least, worth))
    low, high = clopper_pearson(estimate * effective, effective, tail)
    # A few right answers must not promise more than none would: keep the reach of 0 of n and of n of n.
    return Interval(estimate, min(low, always, estimate), max(high, never, estimate))
