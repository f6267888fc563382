"""The correlation of two outcomes of a batch, as one row of a subject shows it and as all of its rows do.

The share of p (1 - p) that the outcomes of a batch have in common is measured by the variance between batches
beyond that within them (one-way analysis of variance), its limits by the F distribution.

A row with no right answer, or with nothing but right answers, has no spread to measure a correlation on. It
borrows the correlation from the other rows of its subject, which rests on one assumption: the outcomes of a
batch are no more alike in the judged row than in the rows where that could be measured. Clean inputs and
random signs may raise the correlation and never lower it, since unattacked batches may be
independent where attacked batches survive or fall as one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

LIMIT_TAIL = 0.025  # by which each limit of a correlation errs
CENTRAL = (0.1, 0.9)  # accuracies at which a correlation of batches would be seen


@dataclass(frozen=True)
class Correlation:
    """Between which limits the correlation of two outcomes of a batch lies: 0 <= low <= high <= 1."""

    low: float = 0.0
    high: float = 1.0

    def effective(self, sizes: NDArray[np.integer]) -> float:
        """How many independent outcomes batches of ``sizes`` are worth at the upper limit."""
        return float((sizes / (1 + (sizes - 1) * self.high)).sum())


UNMEASURED = Correlation()


def measured(correct: NDArray[np.bool_], batch: NDArray[np.integer]) -> Correlation:
    """The correlation of one row; ``UNMEASURED`` where every or no answer is right, and where
    no batch, or one alone, has several examples.

    Args:
        correct: [examples, draws], whether each answer is right. batch: [examples].
    """
    members, sizes = np.unique(batch, return_inverse=True, return_counts=True)[1:]
    examples, batches = len(batch), len(sizes)
    if not 0 < np.count_nonzero(correct) < correct.size or not 1 < batches < examples:
        return UNMEASURED
    means = correct.mean(axis=1, dtype=np.float64)
    mean, shares = float(means.mean()), np.bincount(members, weights=means) / sizes
    between = float(sizes @ (shares - mean) ** 2) / (batches - 1)
    within = float(((means - shares[members]) ** 2).sum()) / (examples - batches)
    size = (examples - float(sizes @ sizes) / examples) / (batches - 1)  # of unequal batches, in effect
    least, most = (
        between / float(fdtri(batches - 1, examples - batches, 1 - tail)) - within
        for tail in (LIMIT_TAIL, 1 - LIMIT_TAIL)
    )
    low, high = np.clip(np.array([least, most]) / size / (mean * (1 - mean)), 0, 1)
    return Correlation(float(low), float(high))


Table = tuple[NDArray[np.bool_], NDArray[np.integer]]


@dataclass(frozen=True)
class Shown:
    """Correlation of one row's batches, and whether the row could have shown much."""

    correlation: Correlation
    attacked: bool  # neither clean inputs nor random signs
    central: bool  # an accuracy at which a correlation would be seen


def shown(correct: NDArray[np.bool_], batch: NDArray[np.integer], *, attacked: bool) -> Shown:
    """`measured`, for `pooled_of`."""
    central = CENTRAL[0] <= float(correct.mean()) <= CENTRAL[1]
    return Shown(measured(correct, batch), attacked, central)


def pooled_of(rows: Iterable[Shown]) -> Correlation:
    """The limits that the rows of a subject set together.

    Attacked rows with accuracies from 10 to 90% measure a correlation; without any, nothing is known of it.
    The upper limit is the median of theirs, and where rows leave no doubt that there is some correlation, at
    least the largest of those: rows in which batches agree do not speak for the one in which they fall apart.
    Other rows raise it to the correlation that they certainly have.
    """
    rows = list(rows)
    measuring = [row.correlation for row in rows if row.attacked and row.central]
    if not measuring:
        return UNMEASURED
    upper = [sorted(row.high for row in measuring)[len(measuring) // 2]]
    upper += [row.high for row in measuring if row.low > 0]
    upper += [row.correlation.low for row in rows]
    return Correlation(max(row.low for row in measuring), max(upper))


def pooled(attacked: Iterable[Table], controls: Iterable[Table] = ()) -> Correlation:
    """`pooled_of` tables: ``correct`` [examples, draws] and ``batch`` [examples] of each row of a subject."""
    return pooled_of(
        [shown(*row, attacked=True) for row in attacked] + [shown(*row, attacked=False) for row in controls]
    )
