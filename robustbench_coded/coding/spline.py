"""Smoothing splines as matrices, and the nodes between which they encode and decode (arXiv 2510.00253).

Without torch.
"""

from collections.abc import Callable
from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]

ORDERS = (1, 3, 5)


def spline_matrix(knots: ArrayLike, at: ArrayLike, *, order: int = 3, smoothing: float = 0.0) -> Matrix:
    """The matrix that takes values at ``knots`` to the natural smoothing spline's values at ``at``.

    With y the n values and m = (order + 1) / 2, the spline u minimises

        1/n sum_i (u(knots_i) - y_i)^2 + smoothing * integral of (m-th derivative of u)^2

    (arXiv:2510.00253, equation 14, for m = 2). Between the knots it consists of polynomials of degree
    ``order``; outside the end knots of one polynomial of degree m - 1: constant, straight or parabolic for
    orders 1, 3 and 5.

    Args:
        knots: n distinct points ``[n]``, in any order; n >= 2, and n >= 3 for order 5.
        at: points ``[p]`` to evaluate at, in any order, inside or outside the knots.
        order: degree of the pieces, 1, 3 or 5.
        smoothing: 0 interpolates; towards infinity u becomes the least-squares polynomial of degree m - 1.
    Returns:
        float64 ``[p, n]``; column i belongs to ``knots[i]``.
    Raises:
        ValueError: an argument is not as above, or not finite.
    """
    knots, at = np.asarray(knots, dtype=np.float64), np.asarray(at, dtype=np.float64)
    if order not in ORDERS:
        raise ValueError(f"expected order 1, 3 or 5, got {order}")
    if not 0 <= smoothing < np.inf:
        raise ValueError(f"expected finite smoothing >= 0, got {smoothing}")
    if knots.ndim != 1 or at.ndim != 1:
        raise ValueError(f"expected knots [n] and points [p], got shapes {knots.shape} and {at.shape}")
    if not (np.isfinite(knots).all() and np.isfinite(at).all()):
        raise ValueError("expected finite knots and points, got NaN or infinity")
    m = (order + 1) // 2
    distinct, fewest = len(np.unique(knots)), max(2, m)
    if distinct < len(knots) or distinct < fewest:
        raise ValueError(f"expected {fewest} or more distinct knots, got {distinct} distinct of {len(knots)}")

    rank = np.argsort(knots)
    ascending = knots[rank]
    fitted = _smoother(ascending, m, smoothing) if smoothing > 0 else np.eye(len(knots))
    matrix = np.empty((len(at), len(knots)))
    matrix[:, rank] = _interpolate(ascending, fitted, at, m)
    return matrix


def _interpolate(knots: Matrix, values: Matrix, at: Matrix, m: int) -> Matrix:
    """Natural splines of degree 2m - 1 through the columns of ``values`` ``[n, c]``, read at ``at``."""
    from scipy.interpolate import make_interp_spline

    # Natural: derivatives m .. 2m - 2 vanish at both ends, which lets a polynomial of degree m - 1 go on.
    vanishing = [(derivative, np.zeros(values.shape[1])) for derivative in range(m, 2 * m - 1)]
    ends = (vanishing, vanishing) if vanishing else None
    spline = make_interp_spline(knots, values, k=2 * m - 1, bc_type=ends)
    # Taylor's sum at the nearest point inside: its first term is the spline, the others count outside only.
    nearest = at.clip(knots[0], knots[-1])
    beyond = (at - nearest)[:, None]
    result = spline(nearest)
    for derivative in range(1, m):
        result += beyond**derivative / factorial(derivative) * spline(nearest, nu=derivative)
    return result


def _smoother(knots: Matrix, m: int, smoothing: float) -> Matrix:
    """The matrix ``[n, n]`` that takes values at ascending ``knots`` to the smoothing spline's values there.

    This is Reinsch's form. The m-th derivative of a natural spline g is a combination of the n - m B-splines
    B_j of degree m - 1 on the knots, with coefficients c. Its inner products with the B_j are Q^T g = R c,
    where Q holds divided differences and R = W^T W the inner products of the B_j; the penalty is c^T R c.
    Eliminating c,

        g = (I - S Q (R + S Q^T Q)^-1 Q^T) y,    S = n * smoothing,

    which is I - H H^T for H the first n rows of the orthogonal factor of [sqrt(S) Q; W]. Nothing is squared
    or inverted, so neither clustered knots nor extreme smoothing cost many digits.
    """
    n = len(knots)
    stacked = np.vstack([np.sqrt(n * smoothing) * _divided_differences(knots, m), _bspline_root(knots, m)])
    orthogonal = np.linalg.qr(stacked)[0][:n]
    return np.eye(n) - orthogonal @ orthogonal.T


def _divided_differences(knots: Matrix, m: int) -> Matrix:
    """Q ``[n, n - m]``: Q^T g are the inner products of the B-splines with the m-th derivative of g."""
    q = np.zeros((len(knots), len(knots) - m))
    for j in range(len(knots) - m):
        support = knots[j : j + m + 1]
        gaps = support[:, None] - support
        np.fill_diagonal(gaps, 1.0)
        q[j : j + m + 1, j] = (support[-1] - support[0]) * factorial(m - 1) / gaps.prod(axis=1)
    return q


def _bspline_root(knots: Matrix, m: int) -> Matrix:
    """W ``[m (n - 1), n - m]`` with W^T W the inner products of the B-splines of degree m - 1."""
    from scipy.interpolate import BSpline

    # Gauss-Legendre with m points an interval is exact for their products, of degree 2m - 2.
    points, weights = np.polynomial.legendre.leggauss(m)
    half = np.diff(knots)[:, None] / 2
    at = (knots[:-1, None] + half + half * points).ravel()
    # design_matrix needs repeated end knots; the m - 1 B-splines at each end that touch them are not ours.
    repeated = np.pad(knots, m - 1, mode="edge")
    bsplines = BSpline.design_matrix(at, repeated, m - 1).toarray()[:, m - 1 : len(knots) - 1]
    return np.sqrt(half * weights).reshape(-1, 1) * bsplines


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
