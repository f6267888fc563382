"""The spline of the codec, and its nodes."""

from fractions import Fraction
from math import factorial

import numpy as np
import pytest
from numpy.polynomial.chebyshev import chebpts1, chebpts2
from scipy.interpolate import CubicSpline, make_smoothing_spline

from robustbench_coded.coding.spline import NODES, chebyshev_first, chebyshev_second, spline_matrix, uniform

SCATTERED = np.random.default_rng(0).uniform(-1, 1, 30)
KNOTS = {
    "first": chebyshev_first(128),
    "second": chebyshev_second(190),
    "uniform": uniform(64),
    "scattered": SCATTERED,
}


@pytest.fixture(params=KNOTS)
def knots(request):
    return KNOTS[request.param]


def values_at(knots):
    return np.random.default_rng(1).normal(size=len(knots))


def between(knots):
    return np.random.default_rng(2).uniform(knots.min(), knots.max(), 200)


def exact_spline(knots, values, at, order, smoothing):
    """The smoothing spline in rational arithmetic: a polynomial plus truncated powers (Wahba 1990)."""
    knots, values, at = ([Fraction(float(v)) for v in vector] for vector in (knots, values, at))
    n, m = len(knots), (order + 1) // 2
    ridge = n * Fraction(smoothing) * (-1) ** m * factorial(order)

    def basis(z):
        return [z**j for j in range(m)] + [max(z - t, Fraction(0)) ** order for t in knots]

    rows = [basis(t) for t in knots]
    for i in range(n):
        rows[i][m + i] += ridge
    rows += [[Fraction(0)] * m + [t**j for t in knots] for j in range(m)]
    coefficients = solve(rows, values + [Fraction(0)] * m)
    return [float(sum(c * b for c, b in zip(coefficients, basis(z), strict=True))) for z in at]


def solve(rows, right):
    rows = [[*row, value] for row, value in zip(rows, right, strict=True)]
    for i in range(len(rows)):
        pivot = next(j for j in range(i, len(rows)) if rows[j][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for j in range(len(rows)):
            if j != i and rows[j][i]:
                factor = rows[j][i] / rows[i][i]
                rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [row[-1] / row[i] for i, row in enumerate(rows)]


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize("smoothing", [0, 1e-4, 10])
def test_equals_the_exact_spline_inside_and_outside(order, smoothing):
    knots, at = SCATTERED[:9], np.linspace(-1.3, 1.3, 27)
    values = values_at(knots)
    exact = exact_spline(knots, values, at, order, smoothing)
    computed = spline_matrix(knots, at, order=order, smoothing=smoothing) @ values
    np.testing.assert_allclose(computed, exact, rtol=1e-10, atol=1e-10)


def test_cubic_equals_scipy_between_the_end_knots(knots):
    values, at, ascending = values_at(knots), between(knots), np.argsort(knots)
    expected = CubicSpline(knots[ascending], values[ascending], bc_type="natural")(at)
    np.testing.assert_allclose(spline_matrix(knots, at) @ values, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize("smoothing", [0, 1e-8, 1, 1e8])
def test_polynomials_without_penalty_are_kept_exactly(knots, order, smoothing):
    at = np.linspace(-1.02, 1.02, 50)
    matrix = spline_matrix(knots, at, order=order, smoothing=smoothing)
    for degree in range((order + 1) // 2):
        np.testing.assert_allclose(matrix @ knots**degree, at**degree, rtol=0, atol=1e-9)


# scipy's normal equations lose digits where many knots cluster and the penalty is large: 4e-8 at 128 knots.
@pytest.mark.parametrize(
    "knots", [chebyshev_second(40), uniform(64), SCATTERED], ids=["second", "uniform", "any"]
)
@pytest.mark.parametrize("smoothing", [1e-7, 1e-3, 1])
def test_cubic_smoothing_equals_scipy(knots, smoothing):
    values, at, ascending = values_at(knots), between(knots), np.argsort(knots)
    expected = make_smoothing_spline(knots[ascending], values[ascending], lam=smoothing * len(knots))
    computed = spline_matrix(knots, at, smoothing=smoothing) @ values
    np.testing.assert_allclose(computed, expected(at), rtol=0, atol=1e-8)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_smoothing_runs_from_interpolation_to_the_least_squares_polynomial(knots, order):
    values, at = values_at(knots), np.linspace(-1.02, 1.02, 50)
    polynomial = np.polynomial.Polynomial.fit(knots, values, deg=(order - 1) // 2)
    smooth = spline_matrix(knots, at, order=order, smoothing=1e12) @ values
    np.testing.assert_allclose(smooth, polynomial(at), rtol=0, atol=1e-8)
    rough = spline_matrix(knots, knots, order=order, smoothing=1e-30) @ values
    np.testing.assert_allclose(rough, values, rtol=0, atol=1e-8)


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize("smoothing", [0, 1e-6])
def test_a_thousand_clustered_knots_lose_few_digits(order, smoothing):
    knots, at = chebyshev_second(1024), chebyshev_first(683)
    matrix = spline_matrix(knots, at, order=order, smoothing=smoothing)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-8)
    # Points and knots are symmetric around 0, so the matrix is too; rounding is not.
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], rtol=0, atol=1e-8)
    if smoothing == 0:
        np.testing.assert_allclose(matrix @ np.sin(3 * knots), np.sin(3 * at), rtol=0, atol=1e-5)


def test_columns_follow_the_order_of_the_knots():
    at, shuffle = between(SCATTERED), np.random.default_rng(3).permutation(len(SCATTERED))
    for smoothing in (0, 1e-3):
        matrix = spline_matrix(SCATTERED, at, smoothing=smoothing)
        shuffled = spline_matrix(SCATTERED[shuffle], at, smoothing=smoothing)
        np.testing.assert_allclose(shuffled, matrix[:, shuffle], rtol=0, atol=1e-13)


def test_fewest_knots_give_their_polynomial():
    np.testing.assert_allclose(spline_matrix([0, 1], [-1, 3]), [[2, -1], [-2, 3]], atol=1e-12)
    parabola = spline_matrix([0, 1, 2], [-1, 5], order=5, smoothing=0.1) @ np.array([0, 1, 4])
    np.testing.assert_allclose(parabola, [1, 25], atol=1e-11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 2}, "expected order 1, 3 or 5, got 2"),
        ({"smoothing": -1e-9}, "expected finite smoothing >= 0, got -1e-09"),
        ({"smoothing": np.nan}, "expected finite smoothing >= 0, got nan"),
        ({"smoothing": np.inf}, "expected finite smoothing >= 0, got inf"),
        ({"knots": [0.5]}, "expected 2 or more distinct knots, got 1 distinct of 1"),
        ({"knots": [0.5, 1, 0.5]}, "expected 2 or more distinct knots, got 2 distinct of 3"),
        ({"knots": [0.5, 1], "order": 5}, "expected 3 or more distinct knots, got 2 distinct of 2"),
        ({"knots": [0, np.nan, 1]}, "expected finite knots and points, got NaN or infinity"),
        ({"at": [np.inf]}, "expected finite knots and points, got NaN or infinity"),
        ({"at": 0.5}, r"expected knots \[n\] and points \[p\], got shapes \(3,\) and \(\)"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        spline_matrix(**{"knots": [0, 0.5, 1], "at": [0.2], **arguments})


@pytest.mark.parametrize("size", [4, 5, 128, 1023])
def test_points_are_those_of_numpy_running_down(size):
    np.testing.assert_allclose(chebyshev_first(size), chebpts1(size)[::-1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(chebyshev_second(size), chebpts2(size)[::-1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(uniform(size), np.linspace(1, -1, size), rtol=0, atol=1e-15)


@pytest.mark.parametrize("points", [chebyshev_first, chebyshev_second, uniform])
@pytest.mark.parametrize("size", [8, 9])
def test_points_are_exactly_symmetric(points, size):
    assert (points(size) == -points(size)[::-1]).all()


def test_inputs_sit_at_the_first_kind_and_coded_inputs_at_the_second():
    assert NODES["chebyshev"].alpha(6)[0] == pytest.approx(np.cos(np.pi / 12))
    assert NODES["chebyshev"].beta(6)[0] == 1
    assert NODES["chebyshev"].beta(6)[1] == pytest.approx(np.cos(np.pi / 5))
