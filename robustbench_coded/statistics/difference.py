"""The interval of the difference of two accuracies over the same examples, of which one comes in batches.

    clustered_difference(left, right, batch, tail, ...) -> (low, high)

The difference is taken in two ways, and the interval reaches as far as either: as the difference of the two
accuracies, and as that of a and b, where a is the share of answers that are right on the left alone and b on
the right alone. Each of the four shares has the interval of a proportion whose outcomes come in batches
(`clustered.py`), and two are joined with their correlation between batches (Zou and Donner, Statistics in
Medicine 27, 2008). The second way knows the ends: two rows with the same outcomes differ by 0 of n each way.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.statistics.clustered import clopper_pearson, clustered_interval
from robustbench_coded.statistics.correlation import UNMEASURED, Correlation
from robustbench_coded.statistics.remembered import remembered
from robustbench_coded.statistics.variance import Spread, between_batches


@remembered
def clustered_difference(
    left: NDArray[np.bool_],
    right: NDArray[np.bool_],
    batch: NDArray[np.integer],
    tail: float,
    *,
    left_clustered: bool = True,
    right_clustered: bool = True,
    correlation: Correlation = UNMEASURED,
) -> tuple[float, float]:
    """Interval for the accuracy of ``left`` less that of ``right``, in [-1, 1].

    Args:
        left, right: [examples, draws] or [examples, 1], whether each answer is right. batch: [examples].
        tail: with which probability each end may err.
        left_clustered, right_clustered: whether the answers of a batch depend on one another; answers that do
        not bound what one side alone can have right.
        correlation: of two outcomes of a batch, as the rows of the subjects show it (`pooled`).
    """
    left, right = np.broadcast_arrays(left, right)
    # Where one side alone is right may come in batches or not, however the accuracies do: the upper limit
    # serves for what was not seen, the lower one for nothing.
    correlation = Correlation(0.0, correlation.high)
    estimate = float(left.mean() - right.mean())
    first, second = (
        _reach(correct, clustered_interval(correct, batch, tail, correlation))
        if clustered
        else _reach(correct, _independent(correct, tail))
        for correct, clustered in ((left, left_clustered), (right, right_clustered))
    )
    alone, other = left & ~right, right & ~left
    # Where one side's answers don't depend on one another, neither does what it has wrong.
    alone_in = [*([] if left_clustered else [left]), *([] if right_clustered else [~right])]
    other_in = [*([] if right_clustered else [right]), *([] if left_clustered else [~left])]
    ways = [
        _joined_ends(first, second, correlation_of(left, right, batch)),
        _joined_ends(
            _part(alone, alone_in, batch, tail, correlation),
            _part(other, other_in, batch, tail, correlation),
            correlation_of(alone, other, batch),
        ),
    ]
    below, above = np.max(ways, axis=0)
    return max(estimate - float(below), -1.0), min(estimate + float(above), 1.0)


Reach = tuple[float, float]  # how far an interval goes below and above its estimate


def _reach(correct: NDArray[np.bool_], interval: tuple[float, float]) -> Reach:
    share = float(correct.mean())
    return share - interval[0], max(interval[1], share) - share


def _part(
    correct: NDArray[np.bool_],
    within: Sequence[NDArray[np.bool_]],
    batch: NDArray[np.integer],
    tail: float,
    correlation: Correlation,
) -> Reach:
    """Reach of the interval for a share that is at most each of ``within``, whose answers are independent."""
    low, high = clustered_interval(correct, batch, tail, correlation)
    return _reach(correct, (low, min([high, *(_independent(whole, tail)[1] for whole in within)])))


def _joined_ends(one: Reach, other: Reach, correlation: float) -> Reach:
    return joined(one[0], other[1], correlation), joined(one[1], other[0], correlation)


def joined(one: float, other: float, correlation: float) -> float:
    """How far a difference may reach when its two terms reach ``one`` and ``other``."""
    return float(np.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0)))


def _independent(correct: NDArray[np.bool_], tail: float) -> tuple[float, float]:
    """Exact for one draw; several draws of an example count as one answer."""
    examples = len(correct)
    return clopper_pearson(float(correct.mean()) * examples, examples, tail)


def correlation_of(
    one: NDArray[np.generic],
    other: NDArray[np.generic],
    batch: NDArray[np.integer],
    spread: Callable[[NDArray[np.generic], NDArray[np.integer]], Spread] = between_batches,
) -> float:
    """Of two estimated shares, from the variances of both and of their difference, as ``spread`` has them."""
    apart = one.astype(np.int8) - other.astype(np.int8)
    first, second, both = (spread(values, batch) for values in (one, other, apart))
    product = first.variance * second.variance
    # Two units are always in a line, up or down.
    if first.degrees < 1.5 or not 0 < product < np.inf:
        return 0.0
    covariance = (first.variance + second.variance - both.variance) / 2
    return float(np.clip(covariance / np.sqrt(product), -1, 1))
