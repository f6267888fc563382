"""The confidence sequence of the mean of any values between 0 and 1: hedged capital.

    betting_sequence(values, tail)               -> (low, high), one pair of ends a value
    betting_difference(left, right, tail)        -> the same for a paired difference

A gambler bets that the mean is above m, another that it is below; each stakes a share of his capital that he
chose before he saw the value. Where the mean is m, neither gains but by luck, and the capital of either ever
reaches 1 / tail with probability at most ``tail`` (Ville). The interval holds every m against which no
gambler got that rich (Waudby-Smith and Ramdas, arXiv 2010.09686, section 4 and Theorem 3 with theta = 1/2 at
alpha = 2 tail). Nothing is assumed of the values but that each has the same mean given those before it.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GRID = 1001  # candidates for the mean
LARGEST_STAKE = 0.5  # of what would lose everything


def stakes(values: Floats, tail: float) -> Floats:
    """The share of his capital that a gambler stakes on each value, chosen from those before it.

    sqrt(2 log(1 / tail) / (variance so far * t log(t + 1))), the predictable plug-in of section 3.2 there.

    Args:
        values: [..., t] in [0, 1].
    """
    count = np.arange(1, values.shape[-1] + 1)
    means = (0.5 + np.cumsum(values, axis=-1)) / (count + 1)
    variances = (0.25 + np.cumsum((values - means) ** 2, axis=-1)) / (count + 1)
    before = np.concatenate([np.full((*values.shape[:-1], 1), 0.25), variances[..., :-1]], axis=-1)
    return np.sqrt(2 * np.log(1 / tail) / (before * count * np.log(count + 1)))


def betting_sequence(values: Floats, tail: float) -> tuple[Floats, Floats]:
    """Both ends after each value; what was ruled out once stays so.

    Args:
        values: [..., t] in [0, 1], several sequences at once where there are more dimensions.
        tail: with which probability each end is ever on its wrong side.

    Returns:
        low, high, each like ``values``.

    Raises:
        ValueError: a value outside [0, 1].
    """
    if values.size and (values.min() < 0 or values.max() > 1):
        raise ValueError(f"expected values in [0, 1], got {values.min():g} to {values.max():g}")
    wanted = stakes(values, tail)
    means = np.linspace(0, 1, _GRID)
    low, high = np.zeros_like(values), np.ones_like(values)
    above = np.zeros((*values.shape[:-1], _GRID))  # log capital of betting on a mean above m
    below = np.zeros_like(above)
    ruled_above = np.zeros(above.shape, dtype=bool)
    ruled_below = np.zeros_like(ruled_above)
    with np.errstate(divide="ignore"):
        most_up, most_down = LARGEST_STAKE / means, LARGEST_STAKE / (1 - means)
    for t in range(values.shape[-1]):
        apart = values[..., t, None] - means
        above += np.log1p(np.minimum(wanted[..., t, None], most_up) * apart)
        below += np.log1p(-np.minimum(wanted[..., t, None], most_down) * apart)
        ruled_above |= above >= -np.log(tail)
        ruled_below |= below >= -np.log(tail)
        low[..., t], high[..., t] = _ends(ruled_above, ruled_below)
    return low, high


def betting_difference(left: Floats, right: Floats, tail: float) -> tuple[Floats, Floats]:
    """Both ends for the mean of ``left`` less that of ``right``, paired value by value, in [-1, 1].

    Args:
        left, right: [..., t] in [0, 1]: the accuracies of one batch each. tail: as above.
    """
    low, high = betting_sequence((1 + left - right) / 2, tail)
    return 2 * low - 1, 2 * high - 1


def _ends(ruled_above: NDArray[np.bool_], ruled_below: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The grid points around those that are left: one step outwards, so that the grid never shortens them."""
    last = ruled_above.shape[-1] - 1
    lowest = np.where(ruled_above.any(axis=-1), last - ruled_above[..., ::-1].argmax(axis=-1), 0)
    highest = np.where(ruled_below.any(axis=-1), ruled_below.argmax(axis=-1), last)
    return lowest / last, highest / last
