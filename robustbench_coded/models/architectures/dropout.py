"""Dropout from a generator of its own, so that training never touches torch's global one."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Inverted dropout; the identity in eval mode and at probability 0.

    The residual networks put it after the second batch-norm of each block (arXiv 2510.00253, appendix H.4).
    """

    def __init__(self, probability: float):
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"expected a dropout probability in [0, 1), got {probability}")
        self.probability = probability
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        if self.generator is None:
            raise ValueError("expected seed_dropout(network, generator) before training with dropout")
        kept = torch.rand(x.shape, generator=self.generator, device=self.generator.device) >= self.probability
        return x * kept.to(x.device, x.dtype) / (1 - self.probability)


def seed_dropout(network: nn.Module, generator: torch.Generator) -> None:
    """Makes every Dropout of ``network`` draw from ``generator`` from now on."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.generator = generator
