"""Gaussian input noise: the simplest randomised defence, and the yardstick for any other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class GaussianNoise:
    """Adds independent Gaussian noise to every pixel before the network sees it; nothing is clipped.

    A draw is an integer that seeds a CPU generator of its own, so the noise is the same on every device.

    Args:
        model: pixels -> logits.
        sigma: standard deviation of the noise, in pixel units on the [0, 1] scale.
        name: as tables name it.
    """

    randomised = True
    batch_dependent = False

    def __init__(self, model: nn.Module, sigma: float, *, name: str = "noise"):
        self.name = name
        self.model = model
        self.base: nn.Module | None = model
        self.sigma = sigma

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k

    def sample(self, generator: torch.Generator, k: int) -> int:
        return int(torch.randint(2**31, (), generator=generator))

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.logits_grouped(x.unsqueeze(0), [draw]).squeeze(0)

    def logits_grouped(self, x: Tensor, draws: Sequence[int]) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes] in one forward."""
        noise = torch.stack([standard_normal(draw, x.shape[1:]) for draw in draws]).to(x)
        return self.model((x + self.sigma * noise).flatten(0, 1)).unflatten(0, x.shape[:2])


def standard_normal(seed: int, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers, float32 of ``shape``, that are the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
