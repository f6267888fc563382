"""Where the codec's splines have their knots: points in [-1, 1], indexed as in arXiv:2510.00253, section 6.

All of them run down from +1 to -1, so slot 0 is always at the same end.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = Callable[[int], NDArray[np.float64]]


def chebyshev_first(k: int) -> NDArray[np.float64]:
    """Chebyshev points of the first kind, cos((2i - 1) pi / 2k) for i = 1..k: all inside (-1, 1)."""
    # The sine of the complementary angle is exactly odd around the middle; the cosine misses 0 by 6e-17.
    return np.sin(np.pi * np.arange(k - 1, -k, -2) / (2 * k))


def chebyshev_second(n: int) -> NDArray[np.float64]:
    """Chebyshev points of the second kind, cos((j - 1) pi / (n - 1)) for j = 1..n, n >= 2, ends included."""
    return np.sin(np.pi * np.arange(n - 1, -n, -2) / (2 * (n - 1)))


def uniform(n: int) -> NDArray[np.float64]:
    """``n`` >= 2 equally spaced points, ends included."""
    return np.arange(n - 1, -n, -2) / (n - 1)


class NodePair(NamedTuple):
    """Which points the inputs of a batch sit at (alpha), and which the coded inputs (beta)."""

    alpha: Points
    beta: Points


NODES: dict[str, NodePair] = {
    "chebyshev": NodePair(chebyshev_first, chebyshev_second),
    "uniform": NodePair(uniform, uniform),
}
