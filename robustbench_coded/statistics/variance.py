"""How much the mean of a table of outcomes would vary from one evaluation to the next.

    between_batches(values, batch)  -> Spread     the batch mean over examples and draws is the unit
    between_examples(values, batch) -> Spread     the example is the unit; draws may be shared by a batch

Values are [examples, draws], for example 1 where an answer is right, or the difference of two such tables.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_coded.statistics.shared_draws import SharedDraws


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
    members, sizes = np.unique(batch, return_inverse=True, return_counts=True)[1:]
    draws = values.shape[1]
    totals = np.stack([np.bincount(members, weights=values[:, draw]) for draw in range(draws)], axis=1)
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
