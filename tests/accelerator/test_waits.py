"""Attacks hardly wait for the device."""

import pytest
import torch
from imitation_accelerator import State

from attacks.estimators import FreshDraws, PlainModel
from robustbench_coded import attack
from tests.accelerator.conftest import tiny

pytestmark = pytest.mark.long


class Noise(torch.nn.Module):
    """Random, so that no attack stops early."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x + 0.01 * torch.randn_like(x))


@pytest.mark.parametrize(
    ("name", "norm", "most"),
    [("pgd", "linf", 0), ("pgd", "l2", 1), ("apgd-ce", "linf", 0), ("square", "linf", 0)],
)
def test_a_step_does_not_wait_for_the_device(device, name, norm, most):
    network, x, y = tiny()
    network, x, y = Noise(network).eval().to(device), x.to(device), y.to(device)
    waits = []
    for steps in (8, 16):
        State.waits.clear()
        attack(network, x, y, f"{name}-{steps}", 0.1, norm=norm)
        waits.append(sum(State.waits.values()))
    assert waits[1] - waits[0] <= 8 * most


def test_nan_in_a_loss_is_noticed_at_the_end(device):
    network, x, y = tiny()
    estimator = FreshDraws(PlainModel(network.to(device)))
    nan = lambda logits, y: logits.sum(-1) * torch.nan  # noqa: E731
    x, y = x.to(device)[None], y.to(device)[None]
    estimator.gradient(x, y, nan)
    with pytest.raises(ValueError, match="without NaN, got 16"):
        estimator.check_losses()
