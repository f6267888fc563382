"""Where a plain stack's batch-norms stand: the first of them tells."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.recognition import recognise_network
from robustbench_coded.models.registry import split_variant

pytestmark = pytest.mark.long

PLACES = {
    "after-activation": ("relu", lambda b, x: F.max_pool2d(b(F.relu(x)), 2)),
    "after-pooling": ("elu", lambda b, x: b(F.max_pool2d(F.elu(x), 2))),
    "pooled-before": ("relu", lambda b, x: F.relu(b(F.max_pool2d(x, 2)))),
    "pooled-before by the mean": ("relu", lambda b, x: F.relu(b(F.avg_pool2d(x, 2)))),
}


class Placed(nn.Module):
    """Named layers, whose order in the file does not tell where batch-norms stand."""

    def __init__(self, place):
        super().__init__()
        self.place = PLACES[place][1]
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 25, 10)

    def forward(self, x):
        return self.fc(self.place(self.bn2, self.conv2(self.place(self.bn1, self.conv1(x)))).flatten(1))


def remembered(network, path):
    """Images whose statistics the file holds."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.uniform_(-0.5, 0.5, generator=generator)
    for norm in (network.bn1, network.bn2):
        norm.momentum = None
        norm.weight.data += 0.5
    x = F.avg_pool2d(torch.rand(256, 1, 28, 28, generator=generator), 3, 1, 1)
    x = x * torch.rand(256, 1, 1, 1, generator=generator)
    network.train()((x - 0.5) / 0.5)
    torch.save(network.eval().state_dict(), path)
    return x


@pytest.mark.parametrize("place", PLACES)
def test_what_batch_norms_remember_tells_where_they_stand(tmp_path, place):
    network = Placed(place)
    x = remembered(network, tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), x, None)
    activation = PLACES[place][0]
    parts = {"batch_norm": place.removesuffix(" by the mean")}
    parts |= {"activation": "elu"} if activation == "elu" else {}
    parts |= {"pooling": "mean"} if place.endswith("mean") else {}
    assert split_variant(found.arch)[1] == parts
    assert found.choice.name == "half" and not found.doubts
    torch.testing.assert_close(found.model(x[:8]), network((x[:8] - 0.5) / 0.5))


def test_batch_norms_in_another_place_than_stated_are_contradicted(tmp_path):
    x = remembered(Placed("after-activation"), tmp_path / "a.pt")
    stack = load_checkpoint(tmp_path / "a.pt").arch
    stated = load_checkpoint(tmp_path / "a.pt", arch=f"{stack}[batch_norm=after-pooling]", normalize="half")
    found = recognise_network(stated, x, None)
    assert (found.arch, found.refusal) == (stated.arch, "")  # it is evaluated as stated
    assert "its batch-norms contradict" in found.warnings[0]
