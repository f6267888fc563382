"""Networks that draw random numbers while they answer: standard inference of one is a randomised defence."""

import torch
from torch import Tensor, nn

from robustbench_coded.defences.global_generators import seeded_globally


def samples(model: nn.Module, x: Tensor) -> bool:
    """Whether ``model`` says that it samples (attribute ``samples``), or does on images x [n, C, H, W]."""
    network = getattr(model, "network", model)
    if getattr(network, "samples", False) is True:
        return True
    with torch.no_grad(), seeded_globally(0) as has_sampled:
        model(x)
        return has_sampled()
