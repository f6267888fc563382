"""Convolutions with a bias beside their batch-norm, and batch-norms folded into convolutions."""

import pytest
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.build import build
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.prepare import fold_batch_norms

X = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def trained(arch):
    network = build(arch, 10, 3, 32).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network


def saved(network, folder, prefix=""):
    path = folder / "network.pt"
    torch.save({prefix + name: tensor for name, tensor in network.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("arch", ["resnet20", "wrn-10-1", "preact-resnet18-bn"])
def test_a_convolution_keeps_its_bias(arch, tmp_path):
    network = trained(arch)
    for module in network.modules():
        if type(module) is nn.Conv2d and module.bias is None:
            module.bias = nn.Parameter(torch.linspace(-0.3, 0.3, module.out_channels))
    loaded = load_checkpoint(saved(network, tmp_path, "module."))
    assert loaded.arch == arch
    assert torch.equal(loaded.network(X), network(X))
    assert "convolutions have a bias beside a batch-norm" in " ".join(loaded.notes)


@pytest.mark.parametrize("arch", ["resnet20", "resnet18", "wrn-10-1"])
def test_folded_batch_norms_are_run_as_they_are(arch, tmp_path):
    network = trained(arch)
    expected = network(X)
    folded = fold_batch_norms(network)
    loaded = load_checkpoint(saved(network, tmp_path))
    assert loaded.arch == arch
    assert torch.equal(loaded.network(X), network(X))
    assert torch.allclose(loaded.network(X), expected, atol=1e-4)
    assert f"{folded} of its batch-norms are folded" in " ".join(loaded.notes)


def test_a_batch_norm_that_no_convolution_took_in_is_missed(tmp_path):
    network = trained("wrn-10-1")
    fold_batch_norms(network)
    weights = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("bn1.")}
    path = tmp_path / "network.pt"
    torch.save(weights, path)
    with pytest.raises(InputError, match=r"bn1.weight is missing"):
        load_checkpoint(path)


def test_a_bias_does_not_stand_for_a_batch_norm_behind_a_shortcut(tmp_path):
    # The stem feeds the shortcut, too: it cannot have taken in the first batch-norm.
    network = trained("preact-resnet18-bn")
    network.conv1.bias = nn.Parameter(torch.ones(64))
    weights = network.state_dict()
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("layer1.0.bn1.")}
    path = tmp_path / "network.pt"
    torch.save(weights, path)
    with pytest.raises(InputError, match=r"layer1.0.bn1 is missing, and no convolution before it"):
        load_checkpoint(path)
