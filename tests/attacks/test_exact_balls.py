"""Projections, steps and starts lie in the ball whatever their type and units, and where exact ones do."""

import pytest
import torch

from attacks.perturbation_budget import PerturbationBudget

RADII = {
    "linf": {8: 0.03, 32: 0.03, 224: 0.03},
    "l2": {8: 0.5, 32: 0.5, 224: 3},
    "l1": {8: 0.5, 32: 12, 224: 60},
}
TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


SIZES = {"linf": (0, 1e-6, 0.1, 1), "l2": (0, 0.05, 0.5, 3), "l1": (0, 0.01, 1, 20, 1000)}
PIXELS = torch.ones(3, 1, 1, dtype=torch.float64)
DEVIATION = (0.25, 0.5, 0.1)


def size_of(x, x0, norm, unit=PIXELS):
    """[G, K], in float64."""
    move = ((x.double() - x0.double()) / unit).abs().flatten(2)
    return {"linf": move.amax(-1), "l2": move.square().sum(-1).sqrt(), "l1": move.sum(-1)}[norm]


def exact(x, x0, norm, eps, unit=PIXELS):
    """The projection in float64, by bisection."""
    x, x0 = x.double(), x0.double()
    move, room = (x - x0) / unit, torch.where(x > x0, 1 - x0, x0) / unit
    size = move.abs()

    def moves(t):
        t = t[..., None, None, None]
        return torch.minimum({"l2": size * t, "l1": (size - t).clamp(min=0)}[norm], room)

    if norm == "linf":
        sizes = torch.minimum(size, room).clamp(max=eps)
        return x0 + sizes * move.sign() * unit
    # Of l2 a factor, of l1 what is taken from every value: 0 moves least, and 1 most.
    ends = (0, 1) if norm == "l2" else (size.max(), 0)
    least, most = (torch.full(x.shape[:2], float(end), dtype=torch.float64) for end in ends)
    for _ in range(60):
        middle = (least + most) / 2
        inside = size_of(moves(middle), PIXELS * 0, norm) <= eps
        least, most = torch.where(inside, middle, least), torch.where(inside, most, middle)
    whole = size_of(moves(most), PIXELS * 0, norm) <= eps
    return x0 + moves(torch.where(whole, most, least)) * move.sign() * unit


def pictures(side, dtype):
    """An input of noise with black and white in it and a grey one; and points of which most lie outside."""
    generator = torch.Generator().manual_seed(side)
    x0 = torch.rand(1, 2, 3, side, side, generator=generator)
    x0 = torch.where(torch.rand(x0.shape, generator=generator) < 0.3, x0.round(), x0)
    x0[:, 1] = 0.7
    x0 = x0.to(dtype)
    far = x0 + torch.randn(x0.shape, generator=generator).to(dtype)
    alike = x0 + torch.full_like(x0, 0.011)  # every value rounds in the same direction
    return x0, (far, alike, x0 + (far - x0) / 50)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("side", [8, 32, 224])
@pytest.mark.parametrize("norm", RADII)
def test_what_a_ball_gives_is_inside(norm, side, dtype):
    eps = RADII[norm][side]
    x0, points = pictures(side, dtype)
    ball, generators = PerturbationBudget(norm, eps).around(x0), [torch.Generator().manual_seed(1)]
    projected = [ball.project_(point.clone()) for point in points]
    steps = [ball.step_(point.clone(), points[0] - x0, eps / 4) for point in projected]
    for x in (*projected, *steps, ball.uniform(generators), ball.random_sign(generators)):
        assert x.dtype == dtype and x.min() >= 0 and x.max() <= 1
        assert (size_of(x, x0, norm) / eps).max() <= 1 + (1e-7 if norm == "l2" else 1e-15)
        torch.testing.assert_close(
            ball.distance(x).double(), size_of(x, x0, norm) / eps, rtol=1e-6, atol=1e-7
        )
    for point, x in zip(points, projected, strict=True):
        # Rounding takes one step of the type from a value at most; in l2, float32 sums up in float32.
        last_place = torch.finfo(dtype).eps + (1e-6 if dtype != torch.float64 else 1e-12)
        assert (x.double() - exact(point, x0, norm, eps)).abs().max() <= last_place


@pytest.mark.parametrize("dtype", TYPES[:2], ids=str)
@pytest.mark.parametrize("deviation", [None, DEVIATION])
@pytest.mark.parametrize(("norm", "eps"), [(norm, eps) for norm, sizes in SIZES.items() for eps in sizes])
def test_a_ball_of_any_size_in_pixels_or_in_normalised_values(norm, eps, deviation, dtype):
    x0, points = pictures(8, dtype)
    unit = torch.tensor(deviation or (1, 1, 1), dtype=torch.float64).view(3, 1, 1)
    budget = PerturbationBudget(norm, float(eps), "normalized" if deviation else "pixel", deviation)
    ball, generators = budget.around(x0), [torch.Generator().manual_seed(1)]
    projected = [budget.around(x0).project_(point.clone()) for point in points]
    rounding = {"rtol": 0, "atol": 1e-9 if dtype == torch.float64 else 1e-6}
    for point, x in zip(points, projected, strict=True):
        torch.testing.assert_close(x.double(), exact(point, x0, norm, eps, unit), **rounding)
        torch.testing.assert_close(budget.around(x0).project_(x.clone()), x, **rounding)
    step = budget.around(x0).step_(projected[0].clone(), points[0] - x0, eps / 4)
    for x in (*projected, step, ball.uniform(generators), ball.random_sign(generators)):
        assert x.min() >= 0 and x.max() <= 1
        assert (size_of(x, x0, norm, unit) <= eps * (1 + 1e-7)).all()
