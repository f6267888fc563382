"""The upper end of a mean, by betting: certain whatever the distribution, at every look.

    upper_end(values, tail, most)    -> end     largest mean that independent values do not refute
    values_needed(left, bar, tail)   -> count   how many values settle that a mean is below a bar

The capital of a gambler who bets against "the mean is at least m" is multiplied with every value x by

    1 + c (m - x) / (most - m)

It is never negative, and if the mean is m or more, it is not expected to grow. So it ever reaches 1 / tail
with probability at most ``tail`` (Ville 1939; Waudby-Smith and Ramdas, arXiv 2010.09686, section 4), whatever
the values are, and however often they are looked at. The gambler divides his capital between several c, which
is a mixture of such capitals. Half of it goes to c = 1, which loses nothing where every value is the
smallest: 140 answers, all wrong, show at a tail of 2.5% that less than 3% are right.

Larger values never lower the end: the capital falls with each of them.
"""

import math

import numpy as np
from numpy.typing import NDArray

SHARES = np.array([1.0, 0.9, 0.75, 0.5, 0.3, 0.15, 0.07, 0.03])  # c
CAPITAL = np.array([0.5, *[0.5 / 7] * 7])  # what is bet with each
_HALVINGS = 50


def upper_end(values: NDArray[np.floating], tail: float, most: float = 1.0) -> float:
    """The largest mean, between that of ``values`` and ``most``, that is not refuted.

    Args:
        values: [n] independent with the same mean, each at most ``most``; n >= 1.
        tail: with which probability the end may ever err, in (0, 1).

    Raises:
        ValueError: there are no values, or one is larger than ``most``.
    """
    if not values.size or values.max() > most:
        raise ValueError(f"expected one value or more, at most {most}, got {values.size} values")
    distinct, counts = np.unique(values.astype(np.float64), return_counts=True)
    low, high = float(values.mean()), float(most)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle <= low or middle >= high:
            break
        if _log_capital(distinct, counts, middle, most) < -math.log(tail):
            low = middle
        else:
            high = middle
    return high


def _log_capital(values: NDArray[np.float64], counts: NDArray[np.integer], mean: float, most: float) -> float:
    factors = 1 + SHARES[:, None] * (mean - values) / (most - mean)
    with np.errstate(divide="ignore"):
        grown = np.log(np.maximum(factors, 0.0)) @ counts + np.log(CAPITAL)
    return float(np.logaddexp.reduce(grown))


def values_needed(left: float, bar: float, tail: float) -> int | None:
    """How many values in [0, 1], all of them ``left``, show that their mean is below ``bar``; None where
    none do.
    """
    if left >= bar:
        return None
    value = np.array([left])
    few, many = 0, 1
    while _log_capital(value, np.array([many]), bar, 1.0) < -math.log(tail):
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        if _log_capital(value, np.array([middle]), bar, 1.0) < -math.log(tail):
            few = middle
        else:
            many = middle
    return many
