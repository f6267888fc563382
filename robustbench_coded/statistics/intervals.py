"""95% intervals for an accuracy, for each way in which outcomes can depend on one another.

    accuracy_interval(correct, batch, batch_dependent=...) -> Interval

The truth aimed at is the population accuracy over examples, batches and draws. Every interval is a
Clopper-Pearson interval with an effective sample size (Korn and Graubard, Survey Methodology 24, 1998): as
many independent outcomes as would have the variance measured between units, fewer where there are few units
to measure it on. The unit is

* the example, for a defence that treats its inputs independently; without randomness this is the exact
  binomial interval;
* the batch mean over examples and draws, for a batch-dependent one.

`benchmarks/coverage.py` measures how often these intervals hold the truth; docs/numbers.md shows the table.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv
from scipy.stats import norm
from scipy.stats import t as student

TAIL = 0.025  # on either side of a 95% interval
NORMAL = float(norm.isf(TAIL))

# Batches whose means agree better than independent examples would are lucky, not informative: a variance of
# less than half the independent one is not believed. Half, not all of it, because at five batches the
# Student factor already pays for the luck, and the whole would cover 98% where 95% is promised.
LEAST_DESIGN_EFFECT = 0.5


@dataclass(frozen=True)
class Interval:
    """An accuracy and its 95% interval, as fractions: 0 <= low <= estimate <= high <= 1 and low < high."""

    estimate: float
    low: float
    high: float
    high_batches: float | None = None
    """Where nothing is right in a batch-dependent defence: the upper bound if a batch were one outcome."""


def clopper_pearson(successes: float, trials: float) -> tuple[float, float]:
    """Exact binomial interval; real-valued counts are allowed, 0 <= successes <= trials and trials > 0."""
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, TAIL)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - TAIL)) if failures > 0 else 1.0
    return low, high


def accuracy_interval(
    correct: NDArray[np.bool_], batch: NDArray[np.integer], *, batch_dependent: bool
) -> Interval:
    """Mean of ``correct`` and its 95% interval.

    Args:
        correct: [examples, draws], whether each answer is right; at least one of each.
        batch: [examples], the batch each example was answered in. For a defence that treats inputs
            independently it says which examples shared a draw of the defence's randomness.
        batch_dependent: whether an answer may depend on the co-batched inputs; the batch is the unit then.

    Raises:
        ValueError: shapes do not fit or there is nothing to average.
    """
    examples = len(correct)
    if batch.shape != (examples,) or not correct.size:
        raise ValueError(f"expected correct [n, draws] and batch [n], got {correct.shape} and {batch.shape}")
    right = int(np.count_nonzero(correct))
    estimate = right / correct.size
    if right in (0, correct.size):
        low, high = clopper_pearson(estimate * examples, examples)
        units = len(np.unique(batch))
        bound = clopper_pearson(0, units)[1] if batch_dependent and right == 0 else None
        return Interval(estimate, low, high, bound)
    means = correct.mean(axis=1, dtype=np.float64)
    by_example = float(means.var(ddof=1)) / examples if examples > 1 else np.inf
    binomial = estimate * (1 - estimate)
    if batch_dependent:
        variance, least = _between_batches(means, batch, estimate)
    else:
        variance, least = _between_examples(correct, means, batch)
    # One example seen in several draws has no variance between examples; it is still one unit.
    floor = LEAST_DESIGN_EFFECT * max(by_example if np.isfinite(by_example) else 0.0, binomial / correct.size)
    effective = max(binomial / max(variance, floor), least)
    low, high = clopper_pearson(estimate * effective, effective)
    # A few right answers must not promise more than none would: keep the reach of 0 of n and of n of n.
    never, always = clopper_pearson(0, examples)[1], clopper_pearson(examples, examples)[0]
    return Interval(estimate, min(low, always, estimate), max(high, never, estimate))


def _student_factor(degrees: float) -> float:
    """By how much a variance estimated with few degrees of freedom must grow to use normal quantiles."""
    return (float(student.isf(TAIL, degrees)) / NORMAL) ** 2


def _between_batches(
    means: NDArray[np.float64], batch: NDArray[np.integer], estimate: float
) -> tuple[float, float]:
    """Variance of the mean from batch means, and the fewest outcomes that the batches can be worth.

    Batches of unequal size count as fewer, equal ones (Kish's effective number), also as degrees of freedom.
    """
    members, sizes = np.unique(batch, return_inverse=True, return_counts=True)[1:]
    weights = sizes / sizes.sum()
    concentration = float(weights @ weights)
    if len(sizes) == 1:
        return np.inf, 1.0
    residuals = np.bincount(members, weights=means) / sizes - estimate
    variance = float((weights * residuals) ** 2 @ (1 / (1 - 2 * weights + concentration)))
    return variance * _student_factor(1 / concentration - 1), 1 / concentration


def _between_examples(
    correct: NDArray[np.bool_], means: NDArray[np.float64], batch: NDArray[np.integer]
) -> tuple[float, float]:
    """Variance of the mean over independent examples, and the fewest outcomes that they can be worth.

    Inputs may be treated independently and yet share a draw (one network of a random ensemble answers the
    whole batch). The variance of batch means from draw to draw beyond that of independent answers is added.
    """
    examples, draws = correct.shape
    if examples == 1:
        return np.inf, 1.0
    variance = float(means.var(ddof=1)) / examples
    shared, batches = _shared_draws(correct, means, batch)
    if shared <= 0:
        return variance * _student_factor(examples - 1), float(examples)
    # Welch-Satterthwaite: the sum's degrees of freedom lie between those of its two parts.
    total = variance + shared
    degrees = total**2 / (variance**2 / (examples - 1) + shared**2 / (batches * (draws - 1)))
    return total * _student_factor(degrees), float(min(examples, batches * draws))


def _shared_draws(
    correct: NDArray[np.bool_], means: NDArray[np.float64], batch: NDArray[np.integer]
) -> tuple[float, int]:
    """Variance that the mean owes to draws shared by a batch (0 or less: none), and the number of batches."""
    examples, draws = correct.shape
    members, sizes = np.unique(batch, return_inverse=True, return_counts=True)[1:]
    if draws == 1 or (sizes == 1).all():
        return 0.0, len(sizes)
    totals = np.empty((len(sizes), draws))
    for draw in range(draws):
        totals[:, draw] = np.bincount(members, weights=correct[:, draw])
    of_means = (totals / sizes[:, None]).var(axis=1, ddof=1)
    of_answers = np.bincount(members, weights=means * (1 - means)) / sizes * draws / (draws - 1)
    several = sizes > 1
    shared = (sizes * of_means - of_answers)[several] / (sizes[several] - 1)
    return float(sizes[several] ** 2 @ shared) / examples**2 / draws, len(sizes)
