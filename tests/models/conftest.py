"""Files of weights, and networks that have seen images or whose weights are nobody's initial values."""

import pytest
import torch
from torch import nn

from robustbench_coded.models.loading import load_checkpoint


@pytest.fixture
def reloaded(tmp_path):
    """What is loaded from ``a.pt`` after these contents were saved as that."""

    def load(contents, **options):
        torch.save(contents, tmp_path / "a.pt")
        return load_checkpoint(tmp_path / "a.pt", **options)

    return load


def prefixed(prefix, tensors):
    """The tensors under names that begin with the prefix."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.fixture(scope="session")
def remembering():
    """From a network and images: the network after its batch-norms have seen these and no others."""

    def after(network, x):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.reset_running_stats()
        network.train()(x)
        return network.eval()

    return after


def randomised(network):
    """Weights and statistics that are nobody's initial values."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
    return network.eval()
