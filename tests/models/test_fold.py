"""Batch-norms inside convolutions: the same function, and only where it is the same."""

import copy

import pytest
import torch
from torch import nn

from robustbench_coded.models.build import build
from robustbench_coded.models.prepare import fold_batch_norms


def trained_looking(network):
    """Statistics and weights that make every batch-norm matter."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            for tensor, low, high in (
                (module.running_mean, -1, 1),
                (module.running_var, 0.5, 2),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -1, 1),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return network.eval().requires_grad_(False)


def batch_norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


# In a pre-activation network half of the batch-norms follow a sum, and the stem feeds the shortcut, too.
@pytest.mark.parametrize(
    ("arch", "batch_norms_before", "foldable"),
    [
        ("digits-cnn", 3, 3),
        ("resnet20", 19, 19),
        ("preact-resnet18-bn", 17, 8),
        ("resnet18", 20, 20),
        ("wrn-10-1", 7, 3),
        ("torchvision-resnet18", 20, 20),
        ("vit-4-16-2-2", 0, 0),
    ],
)
def test_a_folded_network_is_the_same_function(arch, batch_norms_before, foldable):
    network = trained_looking(build(arch, 10, 3, 32))
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == foldable
    assert (batch_norms(network), batch_norms(folded)) == (batch_norms_before, batch_norms_before - foldable)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)


class Twice(nn.Module):
    """One convolution before two batch-norms."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn2(self.conv(self.bn1(self.conv(x))))


class Scaled(nn.Conv2d):
    """Not the convolution that its weights say."""

    def forward(self, x):
        return super().forward(x) ** 2


class Reshaped(nn.Module):
    """Something between the convolution and the batch-norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(x).relu())


@pytest.mark.parametrize(
    "make",
    [
        Twice,
        Reshaped,
        lambda: nn.Sequential(Scaled(3, 3, 3), nn.BatchNorm2d(3)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)),
    ],
    ids=["shared convolution", "relu between", "another convolution", "statistics of the batch"],
)
def test_nothing_is_folded_where_it_would_change_the_function(make):
    network = trained_looking(make())
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 0
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(folded(x), network(x))


def test_a_convolution_with_bias_and_a_batch_norm_without_weights():
    network = trained_looking(nn.Sequential(nn.Conv2d(3, 5, 3, bias=True), nn.BatchNorm2d(5)))
    network[1].weight = network[1].bias = None
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 1
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(folded(x), network(x))
