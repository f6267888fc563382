"""The accuracy of examples that were answered in many random batches.

    partition_interval(correct, batch, tail)              -> (low, high)
    partition_difference(correct, batch, base, tail)      -> (low, high)

A perturbation that does not depend on its batch (gradients of the base model, searches on it) can be scored
in any number of random partitions of the same examples, for forward passes alone. What the batch does to an
answer is then averaged over many batches; what the choice of examples does is not, and stays.

The mean over all partitions is an incomplete U-statistic of the examples (Hoeffding, Annals of Mathematical
Statistics 19, 1948; Blom, Biometrika 63, 1976). Its variance has two parts. The partitions drawn leave
s^2 / batches scored, s^2 being the variance of batch accuracies. The examples drawn leave K^2 z / n, where z
is how much the mean accuracy of batches differs from the one of their members to the other. z is estimated
with noise, so one standard error is added to it; it is at most s^2 / K, where many partitions say no more
than one.
"""

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.statistics.clustered import (
    FEW,
    FEW_EXAMPLES,
    clopper_pearson,
    clustered_interval,
    student_factor,
)
from robustbench_coded.statistics.remembered import remembered


@remembered
def partition_interval(
    correct: NDArray[np.bool_], batch: NDArray[np.integer], tail: float
) -> tuple[float, float]:
    """Interval for the population accuracy, over examples, their batches and draws.

    None right leaves what 0 of n does, where n is the number of batches scored, at most one an example. That
    assumes that no rare kind of example decides the fate of the whole batch it is in: only other examples
    could show that.

    Args:
        correct: [examples, partitions], whether the answer is right.
        batch: [examples, partitions], the batch of each example in each partition.
        tail: with which probability each end may err.

    Raises:
        ValueError: shapes do not fit, or there are fewer than two partitions.
    """
    examples, partitions = correct.shape
    if batch.shape != correct.shape or partitions < 2:
        raise ValueError(
            f"expected correct and batch [examples, 2 or more partitions], got {correct.shape}, {batch.shape}"
        )
    means, scored = _batch_means(correct, batch)
    estimate = float(correct.mean())
    least = clopper_pearson(0, min(examples, scored), tail)[1]
    if estimate in (0.0, 1.0):
        return (0.0, least) if estimate == 0 else (1 - least, 1.0)
    batches = scored / partitions
    within = float(means.var(axis=1, ddof=1).mean())  # of a member's batches
    spread = float(means.var()) * scored / max(scored - 1, 1)
    size = examples / batches
    squares = (means.mean(axis=1) - estimate) ** 2 - means.var(axis=1, ddof=1) / partitions
    error = max(
        float(np.sqrt(2 / examples)) * within / partitions, float(squares.std()) / np.sqrt(batches * size)
    )
    shared = max(float(squares.mean()), 0.0) + 2 * error
    drawn = size**2 * shared / examples * student_factor(max(batches - 1, 1), tail)
    variance = spread / scored + drawn
    binomial = estimate * (1 - estimate)
    # No more is known than where every example were answered once, on its own.
    effective = min(binomial / variance, examples)
    low, high = clopper_pearson(estimate * max(effective, batches), max(effective, batches), tail)
    if effective < 4 * batches:
        first = clustered_interval(correct[:, :1], batch[:, 0], tail)
        low, high = min(low, first[0]), max(high, first[1])
    few = max(FEW_EXAMPLES / examples, FEW)
    if estimate <= few:
        high = max(high, least)
    if estimate >= 1 - few:
        low = min(low, 1 - least)
    return min(low, estimate), max(high, estimate)


@remembered
def partition_difference(
    correct: NDArray[np.bool_], batch: NDArray[np.integer], base: NDArray[np.bool_], tail: float
) -> tuple[float, float]:
    """Interval for the accuracy of ``correct`` less that of a base model that answers inputs one by one.

    It is that of a - b, where a is the share of answers right beside a wrong base model and b the share wrong
    beside a right one: two shares with the intervals above, joined with their correlation between batches
    where that widens the difference (Zou and Donner, Statistics in Medicine 27, 2008).

    Args:
        correct, batch: as above. base: [examples], whether the base model's one answer is right.
        tail: with which probability each end may err.
    """
    gained, lost = correct & ~base[:, None], ~correct & base[:, None]
    a, b = float(gained.mean()), float(lost.mean())
    (a_low, a_high), (b_low, b_high) = (partition_interval(share, batch, tail) for share in (gained, lost))
    means = [_batch_means(share, batch)[0].ravel() for share in (gained, lost)]
    together = 0.0
    if all(values.std() > 0 for values in means):
        together = min(float(np.asarray(np.corrcoef(np.stack(means)))[0, 1]), 0.0)

    def reach(one: float, other: float) -> float:
        return float(np.sqrt(one**2 + other**2 - 2 * together * one * other))

    return max(a - b - reach(a - a_low, b_high - b), -1.0), min(a - b + reach(a_high - a, b - b_low), 1.0)


def _batch_means(correct: NDArray[np.bool_], batch: NDArray[np.integer]) -> tuple[NDArray[np.float64], int]:
    """[examples, partitions], the accuracy of the batch that each example was in; and how many batches."""
    code = np.unique(batch, return_inverse=True)[1].reshape(batch.shape)
    code = code + (code.max() + 1) * np.arange(batch.shape[1])
    sizes = np.bincount(code.ravel())
    right = np.bincount(code.ravel(), weights=correct.ravel())
    return (right / np.maximum(sizes, 1))[code], int((sizes > 0).sum())
