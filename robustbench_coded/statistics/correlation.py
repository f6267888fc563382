"""The correlation of two outcomes of a batch, as all rows of a subject show it.

    measured(correct, batch) -> Correlation          what one row shows
    pooled(attacked, controls) -> Correlation        what several rows of one subject show together

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

from robustbench_coded.statistics.betabinomial import correlation_interval
from robustbench_coded.statistics.remembered import remembered

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


def counts(
    correct: NDArray[np.bool_], batch: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Outcomes of each batch as a binomial count: right answers, trials, and the number of examples.

    An example answered in R draws counts as 1 to R trials: as many as make the spread of examples' means
    within batches binomial. It is 1 where an example's answers are all alike, R where draws are independent.
    """
    members, sizes = np.unique(batch, return_inverse=True, return_counts=True)[1:]
    means = correct.mean(axis=1, dtype=np.float64)
    shares = np.bincount(members, weights=means) / sizes
    trials = sizes * _trials_an_example(means, shares, members, sizes, correct.shape[1])
    return shares * trials, trials, sizes


@remembered
def measured(correct: NDArray[np.bool_], batch: NDArray[np.integer]) -> Correlation:
    """What one row shows of its own correlation; ``UNMEASURED`` where every or no answer is right.

    Args:
        correct: [examples, draws], whether each answer is right. batch: [examples].
    """
    if not 0 < np.count_nonzero(correct) < correct.size:
        return UNMEASURED
    right, trials, _ = counts(correct, batch)
    return Correlation(*correlation_interval(right, trials, LIMIT_TAIL))


Table = tuple[NDArray[np.bool_], NDArray[np.integer]]


@dataclass(frozen=True)
class Shown:
    """What one row shows of its batches' correlation, and whether it could have shown much."""

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
    upper = [sorted(found.high for found in measuring)[len(measuring) // 2]]
    upper += [found.high for found in measuring if found.low > 0]
    upper += [row.correlation.low for row in rows]
    return Correlation(max(found.low for found in measuring), max(upper))


def pooled(attacked: Iterable[Table], controls: Iterable[Table] = ()) -> Correlation:
    """`pooled_of` tables: ``correct`` [examples, draws] and ``batch`` [examples] of each row of a subject."""
    return pooled_of(
        [shown(*row, attacked=True) for row in attacked] + [shown(*row, attacked=False) for row in controls]
    )


def _trials_an_example(
    means: NDArray[np.float64],
    shares: NDArray[np.float64],
    members: NDArray[np.integer],
    sizes: NDArray[np.integer],
    draws: int,
) -> float:
    if draws == 1 or (sizes == 1).all():
        return 1.0
    within = float(((means - shares[members]) ** 2).sum() / (sizes - 1).sum())
    binomial = float(sizes @ (shares * (1 - shares)) / sizes.sum())
    return float(np.clip(binomial / within, 1, draws)) if within > 0 else float(draws if binomial > 0 else 1)
