"""How much a mean of outcomes would vary from one evaluation to the next, and how alike the answers to a
batch are because they share a draw, as all rows of a subject show it.

Values are [examples, draws], for example 1 where an answer is right, or the difference of two such tables.

A defence may answer inputs one by one and yet use one draw for a whole batch: it chooses one of two
networks, say. Two draws that happen to choose the same network agree, and a row with so few draws cannot
know that others would not. It therefore takes what a draw shares from the rows of its subject that have
more draws, where these show for certain that there is something (an F test within batches). Rows of a
defence that draws for each input show nothing, and then nothing changes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

from robustbench_coded.judge.correlation import measured

# Draws that all fall alike: of a fair coin, with probability 2^-5 for as many degrees of freedom.
ENOUGH = 5
FALSE_ALARM, LIMIT_TAIL = 0.001, 0.025


@dataclass(frozen=True)
class SharedDraws:
    """The share of an outcome's variance that it has in common with the others of its batch and draw.

    Attributes:
        share: in [0, 1], of p (1 - p).
        degrees: of freedom that it was estimated with; rows that have as many know it better themselves.
    """

    share: float = 0.0
    degrees: float = 0.0


NOT_SHARED = SharedDraws()


class Drawn(NamedTuple):
    """Share of one row: its estimate, its upper limit, and whether there certainly is one."""

    share: float
    high: float
    certain: bool
    degrees: int


def by_batch(
    values: NDArray[np.generic], batch: NDArray[np.integer]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Which batch each example is of [examples], how large each is [batches], sums [batches, draws]."""
    members, sizes = np.unique(batch, return_inverse=True, return_counts=True)[1:]
    return members, sizes, np.stack([np.bincount(members, weights=column) for column in values.T], axis=1)


def drawn(correct: NDArray[np.bool_], batch: NDArray[np.integer]) -> Drawn | None:
    """The share of one row; None where every batch has one example.

    With one draw for each batch, all that is seen is how alike the answers of a batch are.

    Args:
        correct: [examples, draws], whether each answer is right. batch: [examples].
    """
    draws = correct.shape[1]
    members, sizes, totals = by_batch(correct, batch)
    if (sizes == 1).all():
        return None
    if draws == 1:
        alike = measured(correct, batch)
        return Drawn(alike.high, alike.high, alike.low > 0, len(sizes) - 1)
    degrees = int((sizes > 1).sum()) * (draws - 1)
    between = (sizes * (totals / sizes[:, None]).var(axis=1, ddof=1))[sizes > 1]
    within = np.bincount(members, weights=correct.var(axis=1, ddof=1))[sizes > 1] - between
    mean, size = float(correct.mean()), float(sizes[sizes > 1].mean())
    binomial = mean * (1 - mean)
    if not binomial:
        return Drawn(0.0, 1.0, False, degrees)
    freedom = int((sizes[sizes > 1] - 1).sum()) * (draws - 1)
    of_draws, of_answers = float(between.mean()), float(max(within.sum(), 0.0)) * (draws - 1) / freedom
    if not of_draws:  # nothing moved with the draws, and so nothing tells how much might
        return Drawn(0.0, 1.0, False, degrees)
    least = of_draws / float(fdtri(degrees, freedom, 1 - FALSE_ALARM)) - of_answers
    most = of_draws / float(fdtri(degrees, freedom, LIMIT_TAIL)) - of_answers
    shares = np.clip(np.array([of_draws - of_answers, most]) / size / binomial, 0, 1)
    return Drawn(float(shares[0]), float(shares[1]), least > 1e-9, degrees)


def shared_of(rows: Iterable[Drawn | None]) -> SharedDraws:
    """The share of attacked rows together: the largest of those that are certain of one.

    Where none is certain, and none has enough draws to be, the median of their upper limits.
    """
    known = [row for row in rows if row is not None]
    certain = [row for row in known if row.certain]
    if certain:
        largest = max(certain, key=lambda row: row.share)
        return SharedDraws(largest.share, largest.degrees)
    if any(row.degrees >= ENOUGH for row in known):
        return NOT_SHARED
    limits = sorted(row.high for row in known)
    return SharedDraws(limits[len(limits) // 2] if limits else 1.0, np.inf)


@dataclass(frozen=True)
class Spread:
    """Variance of a mean, as estimated from the differences between units."""

    variance: float  # infinite where there is one unit only
    degrees: float  # of freedom of that estimate
    least: float
    """The fewest independent outcomes that the units can be worth, however alike those of a unit are."""


def between_batches(values: NDArray[np.generic], batch: NDArray[np.integer]) -> Spread:
    """From batch means; unequal batches are worth as many equal ones as Kish's effective number says."""
    members, sizes = np.unique(batch, return_inverse=True, return_counts=True)[1:]
    if len(sizes) == 1:
        return Spread(np.inf, 1.0, 1.0)
    means = values.mean(axis=1, dtype=np.float64)
    weights = sizes / sizes.sum()
    concentration = float(weights @ weights)
    residuals = np.bincount(members, weights=means) / sizes - means.mean()
    # A residual of weight w falls short of its error by 1 - 2 w + sum w^2, as with n - 1 for equal weights.
    variance = float((weights * residuals) ** 2 @ (1 / (1 - 2 * weights + concentration)))
    return Spread(variance, 1 / concentration - 1, 1 / concentration)


def between_examples(values: NDArray[np.generic], batch: NDArray[np.integer]) -> Spread:
    """From example means, and what draws add that a batch shares.

    Inputs may be treated independently and yet share a draw: one network of a random ensemble answers the
    whole batch. The variance of batch means from draw to draw beyond that of independent answers is added.
    """
    examples, draws = values.shape
    if examples == 1:
        return Spread(np.inf, 1.0, 1.0)
    variance = float(values.mean(axis=1, dtype=np.float64).var(ddof=1)) / examples
    batches = len(np.unique(batch))
    shared = _shared_draws(values, batch) if draws > 1 and batches < examples else 0.0
    if shared <= 0:
        return Spread(variance, examples - 1, examples)
    # Welch-Satterthwaite: the degrees of freedom of a sum lie between those of its parts.
    total = variance + shared
    parts = variance**2 / (examples - 1) + shared**2 / (batches * (draws - 1))
    return Spread(total, total**2 / parts, min(examples, batches * draws))


def _shared_draws(values: NDArray[np.generic], batch: NDArray[np.integer]) -> float:
    """Variance that the mean owes to draws shared by a batch; 0 or less where there is no sign of any."""
    members, sizes, totals = by_batch(values, batch)
    draws = values.shape[1]
    of_means = (totals / sizes[:, None]).var(axis=1, ddof=1)
    of_answers = np.bincount(members, weights=values.var(axis=1, ddof=1)) / sizes
    several = sizes > 1
    shared = (sizes * of_means - of_answers)[several] / (sizes[several] - 1)
    return float(sizes[several] ** 2 @ shared) / sizes.sum() ** 2 / draws


def shared_by_draws(shared: SharedDraws, draws: int, batch: NDArray[np.integer]) -> float:
    """Variance that draws add to a mean by being shared, ``draws`` for each batch; a share of p (1 - p).

    0 where the row has as many degrees of freedom as what is known from others: it shows that itself.
    """
    sizes = np.unique(batch, return_counts=True)[1]
    if not shared.share or (draws - 1) * int((sizes > 1).sum()) >= shared.degrees:
        return 0.0
    return shared.share * float(sizes @ sizes) / sizes.sum() ** 2 / draws
