"""A network trained on its own interval bounds: what is certified lies close below what attacks leave."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from robustbench_coded import evaluate
from robustbench_coded.data.named_sets import load_digits

pytestmark = pytest.mark.long

EPS = 0.1


@pytest.fixture(scope="module")
def network():
    """One hidden layer of 32; the loss is of the worst margins within interval bounds (arXiv 1810.12715)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    x, y = load_digits("train").batch(range(384))
    x = x.flatten(1)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    for step in range(400):
        eps = EPS * min(1.0, step / 50)
        low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
        middle = net[1]((low + high) / 2)
        radius = functional.linear((high - low) / 2, net[1].weight.abs())
        low, high = (middle - radius).relu(), (middle + radius).relu()
        towards = net[3].weight[y].unsqueeze(1) - net[3].weight
        margins = net[3].bias[y].unsqueeze(1) - net[3].bias
        margins = margins + torch.einsum("nch,nh->nc", towards.clamp(min=0), low)
        margins = margins + torch.einsum("nch,nh->nc", towards.clamp(max=0), high)
        optimiser.zero_grad()
        functional.cross_entropy(-margins, y).backward()
        optimiser.step()
    return net.eval()


def test_little_is_unknown(network, tmp_path):
    options = {"attacks": "apgd-ce-50", "eps": EPS, "limit": 320, "certify": True, "threads": 1}
    run = evaluate(network, "digits", out=tmp_path / "run", **options)
    (row,) = run.certified
    assert row.certified.estimate > 0.6
    assert row.certified.estimate <= row.ensemble.high
    assert row.unknown < 0.05
