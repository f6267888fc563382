"""95% intervals for an accuracy, for each way in which outcomes can depend on one another.

    accuracy_interval(correct, batch, batch_dependent=..., correlation=..., tail=...) -> Interval

The truth aimed at is the population accuracy over examples, batches and draws. Each end errs with probability
2.5%, unless another is asked for.

* Outcomes of a batch-dependent defence come in batches: `clustered.py`.
* A defence that treats its inputs independently has the exact binomial interval of its examples. With draws
  it is Clopper and Pearson's with the effective number of outcomes that the variance between examples gives,
  and what a batch's shared draws add to it (Korn and Graubard, Survey Methodology 24, 1998). A row with few
  draws takes that from others (`shared_draws.py`).

`benchmarks/coverage.py` measures how often each end errs; docs/numbers.md shows the table.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.statistics.clustered import (
    LEAST_DESIGN_EFFECT,
    clopper_pearson,
    clustered_interval,
    student_factor,
)
from robustbench_coded.statistics.correlation import UNMEASURED, Correlation
from robustbench_coded.statistics.shared_draws import NOT_SHARED, SharedDraws
from robustbench_coded.statistics.variance import between_examples, shared_by_draws

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
