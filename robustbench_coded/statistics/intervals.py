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
from scipy.special import betaincinv, ndtri, stdtrit

from robustbench_coded.statistics.variance import spread

TAIL = 0.025  # on either side of a 95% interval
NORMAL = -float(ndtri(TAIL))

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
    never, always = clopper_pearson(0, examples)[1], clopper_pearson(examples, examples)[0]
    if right == 0:
        batches = len(np.unique(batch))
        return Interval(0.0, 0.0, never, clopper_pearson(0, batches)[1] if batch_dependent else None)
    if right == correct.size:
        return Interval(1.0, always, 1.0)
    measured = spread(correct, batch, by_batch=batch_dependent)
    means = correct.mean(axis=1, dtype=np.float64)
    binomial = estimate * (1 - estimate)
    independent = max(float(means.var(ddof=1)) / examples if examples > 1 else 0.0, binomial / correct.size)
    variance = max(measured.variance * student_factor(measured.degrees), LEAST_DESIGN_EFFECT * independent)
    effective = max(binomial / variance, measured.least)
    low, high = clopper_pearson(estimate * effective, effective)
    # A few right answers must not promise more than none would: keep the reach of 0 of n and of n of n.
    return Interval(estimate, min(low, always, estimate), max(high, never, estimate))


def student_factor(degrees: float) -> float:
    """By how much a variance estimated with few degrees of freedom must grow to use normal quantiles."""
    return (float(stdtrit(degrees, TAIL)) / NORMAL) ** 2
