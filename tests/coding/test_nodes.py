import numpy as np
import pytest
from numpy.polynomial.chebyshev import chebpts1, chebpts2

from robustbench_coded.coding.spline import NODES, chebyshev_first, chebyshev_second, uniform


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
