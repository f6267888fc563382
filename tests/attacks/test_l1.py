"""The l1 ball, and Auto-PGD in it beside pyautoattack's."""

from pathlib import Path

import pytest
import torch

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded import attack
from robustbench_coded.data.registry import load_data
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel

pytestmark = pytest.mark.long

EPS = 3.0


def points(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(2, 3, 3, 5, 5, generator=generator).to(dtype)
    return x0, x0 + 0.4 * torch.randn(x0.shape, generator=generator).to(dtype)


def test_the_projection_is_that_of_pyautoattack():
    base = pytest.importorskip("pyautoattack.autopgd_base")
    x0, x = points(torch.float32)
    found = PerturbationBudget("l1", EPS).around(x0).project_(x.clone()).flatten(0, 1)
    x0, x = x0.flatten(0, 1), x.flatten(0, 1)
    torch.testing.assert_close(found, x + base.L1_projection(x0, x - x0, EPS), atol=1e-5, rtol=0)


def test_steps_starts_and_noise_stay_inside_and_slots_have_their_own_radius():
    x0, x = points()
    factors = torch.tensor([[0.0, 1.0, torch.inf], [1.0, 0.5, 1.0]])
    budget = PerturbationBudget("l1", EPS, eps_scale=factors)
    generators = [torch.Generator().manual_seed(g) for g in range(2)]
    ball = budget.around(x0)
    stepped = ball.step_(x0.clone(), x - x0, 0.5)
    for found in (ball.uniform(generators), ball.random_sign(generators), stepped, ball.project_(x.clone())):
        assert found.min() >= 0 and found.max() <= 1
        moved = (found - x0).abs().flatten(2).sum(2)
        assert (moved[:, :2] <= EPS * factors[:, :2] + 1e-6).all() and moved[1, 2] <= EPS + 1e-6
    assert torch.equal(ball.project_(x.clone())[0, 2], x[0, 2].clamp(0, 1))
    # A step of 0.5 moves the three values of the steepest slope alike, as far as the box lets them.
    assert ((stepped != x0)[0, 1].sum() <= 3) and (stepped - x0)[0, 1].abs().sum() <= 0.5 + 1e-9


@pytest.fixture(scope="module")
def digits():
    root = Path(__file__).parents[2]
    checkpoint = load_checkpoint(root / "checkpoints" / "digits-pgd-at.safetensors")
    mean, std = checkpoint.normalisation.mean, checkpoint.normalisation.std
    model = PixelModel(checkpoint.network, mean, std, classes=10, arch="digits-cnn").eval()
    return model, *load_data("digits").batch(range(100))


def test_auto_pgd_in_l1_leaves_no_more_than_pyautoattack(digits):
    base = pytest.importorskip("pyautoattack.autopgd_base")
    model, x, y = digits
    settings = {"n_iter": 50, "norm": "L1", "eps": 1.5, "seed": 0, "loss": "ce", "use_largereps": True}
    theirs = base.APGDAttack(model, **settings, device="cpu", verbose=False).perturb(x, y)

    def left(x):
        return int((model(x).argmax(1) == y).sum())

    ours = attack(model, x, y, "apgd-ce-50", 1.5, norm="l1", seed=0)
    sparse = (ours != x).flatten(1).sum(1).double().mean()
    assert left(ours) <= left(theirs) + 2 < left(x)
    assert (ours - x).abs().flatten(1).sum(1).max() <= 1.5 * (1 + 1e-5)
    assert sparse < 0.5 * x[0].numel()  # few values are moved
    # Steps that move all values alike, as in the other norms, find less.
    assert (
        left(attack(model, x, y, "apgd-t-20", 1.5, norm="l1", seed=0))
        <= left(ours)
        < left(attack(model, x, y, "pgd-50", 1.5, norm="l1", seed=0))
    )
