"""Perturbations of low frequencies: inside ball, box and subspace, as independent references see them."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.optimize import linprog

from attacks.low_frequency import TOLERANCE, cosines
from attacks.perturbation_budget import PerturbationBudget

TYPES = [torch.float64, torch.float32, torch.float16]


def pictures(channels, height, width, dtype=torch.float64, *, grey=False):
    """Two batches of two inputs with black and white areas in them, or without."""
    generator = torch.Generator().manual_seed(height)
    x0 = torch.rand(2, 2, channels, height, width, generator=generator)
    return (0.4 + 0.2 * x0 if grey else (1.6 * x0 - 0.3).clamp(0, 1)).to(dtype)


def noise(x0, seed=1):
    return torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed)).to(x0.dtype)


def visited(ball, x0, eps):
    """What attacks and controls get of a ball."""
    generators = [torch.Generator().manual_seed(g) for g in (1, 2)]
    projected = ball.project_(x0 + noise(x0))
    step = ball.step_(projected.clone(), noise(x0, 2), eps / 4)
    return projected, step, ball.uniform(generators), ball.random_sign(generators)


def size_of(x, x0, norm):
    move = (x.double() - x0.double()).flatten(2)
    return move.abs().amax(-1) if norm.startswith("linf") else move.square().sum(-1).sqrt()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(
    ("channels", "height", "width", "low"),
    [(1, 8, 8, 3), (3, 32, 24, 8), pytest.param(3, 224, 200, 16, marks=pytest.mark.long)],
)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.5)])
def test_every_point_is_inside_ball_box_and_subspace(norm, eps, channels, height, width, low, dtype):
    x0 = pictures(channels, height, width, dtype)[:, : 1 if height > 100 else 2]
    ball = PerturbationBudget(f"{norm}-low{low}", eps).around(x0)
    for x in visited(ball, x0, eps):
        assert x.dtype == dtype and x.min() >= 0 and x.max() <= 1
        assert (size_of(x, x0, norm) <= eps * (1 + 1e-7)).all()
        assert 0 < ball.distance(x).max() <= 1 + 1e-7
    # Half of a grey level is the tolerance; this is two, of high frequencies.
    chequered = 2 * (-1.0) ** (torch.arange(height)[:, None] + torch.arange(width)) * 2 * TOLERANCE
    outside = (x0 + chequered.to(dtype)).clamp(0, 1)
    assert (ball.distance(outside) > 1).all()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.3)])
def test_inside_the_box_a_perturbation_has_no_coefficients_elsewhere(norm, eps, dtype):
    x0 = pictures(3, 16, 12, dtype, grey=True)
    ball = PerturbationBudget(f"{norm}-low4", eps).around(x0)
    for x in visited(ball, x0, eps):
        spectrum = dctn((x.double() - x0.double()).numpy(), axes=(3, 4), norm="ortho")
        assert np.abs(spectrum[..., :4, :4]).max() > 1e-3
        spectrum[..., :4, :4] = 0
        assert np.abs(spectrum).max() <= 16 * torch.finfo(torch.promote_types(dtype, torch.float16)).eps
        again = ball.project_(x.clone())
        torch.testing.assert_close(again, x, rtol=0, atol=max(1e-6, torch.finfo(dtype).eps))


def test_in_l2_the_projection_is_the_nearest_point_inside_the_box():
    x0 = pictures(3, 16, 12, grey=True)
    waves = [cosines(n, 4, torch.float64, torch.device("cpu")) for n in (16, 12)]
    move = 0.01 * noise(x0)
    kept = waves[0].T @ (waves[0] @ move @ waves[1].T) @ waves[1]
    length = kept.flatten(2).norm(dim=2)[:, :, None, None, None]
    exact = x0 + kept * (0.05 / length).clamp(max=1)
    found = PerturbationBudget("l2-low4", 0.05).around(x0).project_(x0 + move)
    assert (length > 0.05).any()
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-7)


def feasible(x, x0, low, eps, slack):
    """Whether some d of low frequencies within eps gives clip(x0 + d) = x to ``slack``: a linear program."""
    waves = [cosines(n, low, torch.float64, torch.device("cpu")) for n in x.shape[-2:]]
    of_coefficients = torch.einsum("ah,bw->hwab", *waves).reshape(x.numel(), low * low).numpy()
    move = (x - x0).flatten().numpy()
    at = x.flatten().numpy()
    lower = np.maximum(np.where(at <= slack, -eps, move - slack), -eps)
    upper = np.minimum(np.where(at >= 1 - slack, eps, move + slack), eps)
    found = linprog(
        np.zeros(low * low),
        A_ub=np.concatenate([of_coefficients, -of_coefficients]),
        b_ub=np.concatenate([upper, -lower]) + 1e-9,
        bounds=(None, None),
    )
    return found.status == 0


def test_membership_is_that_of_a_linear_program():
    """What is certified belongs to the set, and what nearly reaches the tolerance alone may be refused."""
    low, eps, counts = 3, 0.2, [0, 0]
    for seed in range(30):
        x0 = pictures(1, 8, 8 + seed % 2)[:1, :1]
        x0 = x0[..., torch.randperm(x0.shape[-1], generator=torch.Generator().manual_seed(seed))]
        ball = PerturbationBudget(f"linf-low{low}", eps).around(x0)
        inside = ball.step_(ball.project_(x0 + noise(x0, seed)), noise(x0, seed + 100), eps)
        # By up to a grey level in every pixel, or 0: some of these belong to the set.
        far = (inside + 0.25 * (seed % 7) * TOLERANCE * noise(x0, seed).clamp(-1.5, 1.5)).clamp(0, 1)
        far = torch.minimum(torch.maximum(far, x0 - eps), x0 + eps)
        for x in (inside, far):
            member = bool(ball.distance(x) <= 1 + 1e-6)
            counts[member] += 1
            slack = TOLERANCE if member else TOLERANCE / 2
            assert member == feasible(x[0, 0, 0], x0[0, 0, 0], low, eps, slack), seed
    assert min(counts) > 5


def test_a_step_climbs_a_linear_function_as_far_as_low_frequencies_can():
    x0 = pictures(1, 8, 8, grey=True)
    slope = noise(x0)
    ball = PerturbationBudget("linf-low2", 0.1).around(x0)
    x = x0.clone()
    for _ in range(40):
        x = ball.step_(x, slope, 0.02)
    gained = ((x - x0) * slope).flatten(2).sum(2)
    waves = cosines(8, 2, torch.float64, torch.device("cpu"))
    of_coefficients = torch.einsum("ah,bw->hwab", waves, waves).reshape(64, 4).numpy()
    for g, k in np.ndindex(2, 2):
        best = linprog(
            -(slope[g, k].flatten().numpy() @ of_coefficients),
            A_ub=np.concatenate([of_coefficients, -of_coefficients]),
            b_ub=np.full(128, 0.1),
            bounds=(None, None),
        )
        assert 0.9 * -best.fun <= gained[g, k] <= -best.fun * (1 + 1e-6)


def test_a_free_slot_goes_anywhere_and_a_held_one_nowhere():
    x0 = pictures(3, 8, 8)
    scale = torch.tensor([[torch.inf, 1.0], [0.0, 1.0]])
    ball = PerturbationBudget("linf-low2", 0.1, eps_scale=scale).around(x0)
    white = torch.ones_like(x0)
    x = ball.project_(torch.where(noise(x0) > 0, white, 0))
    assert set(x[0, 0].unique().tolist()) == {0, 1} and torch.equal(x[1, 0], x0[1, 0])
    assert ball.distance(x).max() <= 1 + 1e-7
    moved = x.clone()
    moved[1, 0, 0, 0, 0] = 1 - moved[1, 0, 0, 0, 0]
    assert ball.distance(moved)[1, 0] > 1


def test_normalised_units():
    x0 = pictures(3, 8, 8, grey=True)
    ball = PerturbationBudget("linf-low2", 0.2, "normalized", (0.25, 0.5, 0.1)).around(x0)
    x = ball.project_(x0 + noise(x0))
    far = (x - x0).abs().amax((0, 1, 3, 4))
    assert (far <= 0.2 * torch.tensor([0.25, 0.5, 0.1]) * (1 + 1e-7)).all() and far[1] > 0.06


def test_more_frequencies_than_pixels():
    with pytest.raises(ValueError, match="expected at most 6 frequencies on such images, got 7"):
        PerturbationBudget("linf-low7", 0.1).around(pictures(1, 8, 6))
