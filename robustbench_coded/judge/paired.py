"""Differences between two rows, paired over the same examples, batches and draws.

Two rows that answer the same examples in the same draws share most of their luck, and the difference of
their accuracies is known better than either of them. The interval joins those of the two accuracies (Zou
and Donner, Statistics in Medicine 27, 2008), with their correlation measured between units; away from 0
and 1 that is the paired Student interval, and where both accuracies are 0 it has the width that 0 of n
leaves.

As soon as one of the two rows has outcomes that come in batches, the batch is the unit; an
example-wise row is then averaged over the examples of each batch of the other, and keeps the interval of its
own examples. Of batches of two sizes the unit is the larger one they fit into. A deterministic row has the
same outcome in any draw. The difference is then taken in two ways, and the interval reaches as far as either:
as the difference of the two accuracies, and as that of a and b, where a is the share of answers that are
right on the left alone and b on the right alone. The second way knows the ends: two rows with the same
outcomes differ by 0 of n each way. No interval is wider than the difference of the two accuracies' own, each
end at half of the error: what few batches measure of a correlation is no reason for more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.judge import intervals
from robustbench_coded.judge.case_results import CaseResult, shared_error
from robustbench_coded.judge.correlation import UNMEASURED, Correlation
from robustbench_coded.judge.ensemble import common
from robustbench_coded.judge.outcomes import Cell
from robustbench_coded.judge.variance import SharedDraws, Spread, between_batches, between_examples
from robustbench_coded.schema.words import IntervalKind


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
    estimate = float(left.mean() - right.mean())

    def ends(of: float) -> tuple[tuple[float, float], ...]:
        """The two accuracies' own intervals, each end of which errs with probability ``of``."""
        return tuple(
            intervals.clustered_interval(correct, batch, of, correlation)
            if clustered
            else _of_examples(correct, of)
            for correct, clustered in ((left, left_clustered), (right, right_clustered))
        )

    first, second = (_reach(correct, of) for correct, of in zip((left, right), ends(tail)))
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
    # However the two vary together, the difference lies between those of their own ends at half of the error.
    (first_low, first_high), (second_low, second_high) = ends(tail / 2)
    low = max(estimate - float(below), first_low - second_high)
    high = min(estimate + float(above), first_high - second_low)
    return low, high


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
    low, high = intervals.clustered_interval(correct, batch, tail, correlation)
    return _reach(correct, (low, min([high, *(_of_examples(whole, tail)[1] for whole in within)])))


def _joined_ends(first: Reach, other: Reach, correlation: float) -> Reach:
    return joined(first[0], other[1], correlation), joined(first[1], other[0], correlation)


def joined(first: float, other: float, correlation: float) -> float:
    """How far a difference may reach when its two terms reach ``first`` and ``other``."""
    return float(np.sqrt(max(first**2 + other**2 - 2 * correlation * first * other, 0.0)))


def _of_examples(correct: NDArray[np.bool_], tail: float) -> tuple[float, float]:
    """Exact for one draw; several draws of an example count as one answer."""
    examples = len(correct)
    return intervals.clopper_pearson(float(correct.mean()) * examples, examples, tail)


def correlation_of(
    own: NDArray[np.generic],
    other: NDArray[np.generic],
    batch: NDArray[np.integer],
    spread: Callable[[NDArray[np.generic], NDArray[np.integer]], Spread] = between_batches,
) -> float:
    """Of two estimated shares, from the variances of both and of their difference, as ``spread`` has them."""
    apart = own.astype(np.int8) - other.astype(np.int8)
    first, second, both = (spread(values, batch) for values in (own, other, apart))
    product = first.variance * second.variance
    # Two units are always in a line, up or down.
    if first.degrees < 1.5 or not 0 < product < np.inf:
        return 0.0
    covariance = (first.variance + second.variance - both.variance) / 2
    return float(np.clip(covariance / np.sqrt(product), -1, 1))


class NotPaired(ValueError):
    """Two rows have no examples, batches or draws in common; the message says which."""


@dataclass(frozen=True)
class Difference:
    """Accuracy of the first row less that of the second, as fractions: -1 <= low <= estimate <= high <= 1."""

    estimate: float
    low: float
    high: float
    first: float  # accuracies on what the two rows share
    second: float
    examples: int
    units: int
    kind: IntervalKind = IntervalKind.POPULATION

    def __str__(self) -> str:
        low, estimate, high = (f"{100 * value:+z.1f}" for value in (self.low, self.estimate, self.high))
        return f"{estimate} points ({low} to {high} {self.kind.phrase})"


def paired_difference(first: CaseResult, second: CaseResult, tail: float = intervals.TAIL) -> Difference:
    """Accuracy of ``first`` less that of ``second``, each end erring with probability ``tail``.

    Raises:
        NotPaired: no outcomes, or no examples, batches or draws in common.
    """
    if first.cell is None or second.cell is None:
        raise NotPaired("a row without outcomes cannot be compared")
    tail /= max(first.looks, second.looks, 1)
    own, other = _shared(first.cell, second.cell, first.randomised, second.randomised)
    by_batch = first.batch_dependent or second.batch_dependent
    left, right = own.correct, other.correct
    estimate = float(left.mean() - right.mean())
    of_victims = first.disjoint_batches or second.disjoint_batches
    kind = IntervalKind.EVALUATED_IMAGES if of_victims else IntervalKind.POPULATION
    tail, of_random = shared_error(tail, first, second)
    if by_batch:
        of = [(cell, row) for cell, row in ((own, first), (other, second)) if row.batch_dependent]
        unit = _units([cell.batch for cell, _ in of])
        low, high = clustered_difference(
            left,
            right,
            unit,
            tail,
            left_clustered=first.batch_dependent,
            right_clustered=second.batch_dependent,
            correlation=max((row.correlation for _, row in of), key=lambda known: known.high),
        )
    else:
        unit = own.example
        low, high = independent_difference(left, right, own.batch, tail, (first.shared, second.shared))
    if first.random_batches:
        scored = _on_these_images(first, second, intervals.Interval(estimate, low, high, kind), of_random)
        low, high, kind = scored.low, scored.high, scored.kind
    elif second.random_batches:
        scored = _on_these_images(second, first, intervals.Interval(-estimate, -high, -low, kind), of_random)
        low, high, kind = -scored.high, -scored.low, scored.kind
    return Difference(
        estimate,
        min(low, estimate),
        max(high, estimate),
        float(left.mean()),
        float(right.mean()),
        len(own.example),
        len(np.unique(unit)),
        kind,
    )


def _on_these_images(
    row: CaseResult, base: CaseResult, interval: intervals.Interval, tail: float
) -> intervals.Interval:
    """What random batches show of a row's accuracy less a base model's, in place of ``interval``.

    The base model answers inputs one by one, each once; ``interval`` stands where it does not. Its accuracy
    on the evaluated images is known, so the difference also lies between the row's ends less that accuracy.
    """
    cell = base.cell
    if base.batch_dependent or cell is None or cell.correct.shape[1] != 1:
        return interval
    if not all(np.isin(scored.images, cell.example).all() for scored in row.random_batches):
        return interval

    def answers(images: NDArray[np.int64]) -> NDArray[np.bool_]:
        return cell.at_examples(images).correct[:, 0]

    gain = row.on_these_images(interval, [partial(of.above, answers) for of in row.random_batches], tail)
    own, known = row.interval(tail * max(row.looks, 1) / 2), float(cell.correct.mean())
    if own is None or row.cell is None or not np.isin(row.cell.example, cell.example).all():
        return gain
    return replace(gain, low=max(gain.low, own.low - known), high=min(gain.high, own.high - known))


def independent_difference(
    left: NDArray[np.bool_],
    right: NDArray[np.bool_],
    batch: NDArray[np.int64],
    tail: float,
    shared: tuple[SharedDraws, SharedDraws],
) -> tuple[float, float]:
    """The interval where both rows answer their inputs one by one."""
    plain = [
        intervals.accuracy_interval(side, batch, batch_dependent=False, tail=tail) for side in (left, right)
    ]
    a, b = (
        intervals.accuracy_interval(side, batch, batch_dependent=False, shared=known, tail=tail)
        if known.share
        else seen
        for side, known, seen in zip((left, right), shared, plain, strict=True)
    )
    r = correlation_of(left, right, batch, between_examples)
    # What draws add by being shared is no part of what was seen to vary together.
    for wider, seen in zip((a, b), plain, strict=True):
        r *= (seen.high - seen.low) / (wider.high - wider.low)
    # However alike the two rows are, they may still differ where 0 of n examples showed it.
    unseen = intervals.clopper_pearson(0, len(left), tail)[1]
    below = max(joined(a.estimate - a.low, b.high - b.estimate, r), unseen)
    above = max(joined(a.high - a.estimate, b.estimate - b.low, r), unseen)
    estimate = a.estimate - b.estimate
    return max(estimate - below, -1.0), min(estimate + above, 1.0)


def _shared(own: Cell, other: Cell, one_random: bool, other_random: bool) -> tuple[Cell, Cell]:
    example = common([own.example, other.example])
    if not len(example):
        raise NotPaired("they have no examples in common")
    own, other = own.at_examples(example), other.at_examples(example)
    if one_random and other_random:
        draw = common([own.draw, other.draw])
        if not len(draw):
            raise NotPaired("they have no draws in common")
        own, other = own.at_draws(draw), other.at_draws(draw)
    return own, other


def _units(batches: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """[examples], the smallest groups of examples that no batch of either row straddles."""
    if len(batches) == 1 or (batches[0] == batches[1]).all():
        return batches[0]
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = (np.unique(batch, return_inverse=True)[1] for batch in batches)
    count = left.max() + right.max() + 2
    edges = coo_array((np.ones(len(left)), (left, right + left.max() + 1)), shape=(count, count))
    number, component = connected_components(edges, directed=False)
    if number == 1 and min(left.max(), right.max()) > 0:
        raise NotPaired("they cut the examples into other batches, so that no batches are in common")
    return component[left].astype(np.int64)
