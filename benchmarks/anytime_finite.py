"""What all of a finite set would count, from a random part of it that may have been looked at all along.

    finite_interval(right, trials, size, tail) -> (low, high)

Sampling without replacement from ``size`` answers, each right or wrong (Waudby-Smith and Ramdas, arXiv
2006.04347): the ratio of prior to posterior of the number of right ones is a martingale at the truth. As in
`statistics/anytime/mixture.py` it is taken on one side of each candidate, so that each end has a probability
of its own. The prior is uniform over numbers. Unlike the interval of a population, this one closes: after all
answers it is one number.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln

Floats = NDArray[np.float64]


def finite_interval(right: int, trials: int, size: int, tail: float) -> tuple[float, float]:
    """Both ends for the share of right answers among all ``size``, ``right`` of ``trials`` drawn being right.

    Args:
        tail: with which probability each end is ever on its wrong side while the set is drawn from.

    Raises:
        ValueError: counts that cannot be.
    """
    if not 0 <= right <= trials <= size or size < 1:
        raise ValueError(f"expected 0 <= right <= trials <= size, got {right}, {trials}, {size}")
    low = size - _most(trials - right, trials, size, tail)
    return low / size, _most(right, trials, size, tail) / size


def _most(right: int, trials: int, size: int, tail: float) -> int:
    """The largest number of right answers that smaller numbers do not refute."""
    rest = size - trials
    more = np.arange(rest + 1)
    posterior = np.exp(_log_beta_binomial(more, rest, right + 1, trials - right + 1))
    # Numbers from 0 to right + more; the prior of each is 1 / (size + 1).
    ratio = np.cumsum(posterior) * (1 / (right + more + 1)) / np.maximum(posterior, 1e-300)
    kept = np.flatnonzero(ratio < 1 / tail)
    return right + (int(kept.max()) if len(kept) else 0)


def _log_beta_binomial(count: NDArray[np.int64], size: int, a: float, b: float) -> Floats:
    chosen = gammaln(size + 1) - gammaln(count + 1) - gammaln(size - count + 1)
    return chosen + betaln(count + a, size - count + b) - betaln(a, b)
