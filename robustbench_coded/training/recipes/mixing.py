"""What mixup and manifold mixup share: a coefficient, partners, and the loss of mixed labels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn.functional import cross_entropy


class Mixing(NamedTuple):
    """Each example i becomes ``share`` times itself and 1 - ``share`` times example ``partner[i]``."""

    share: float
    partner: Tensor  # a permutation of the batch

    @staticmethod
    def draw(k: int, alpha: float, generator: torch.Generator) -> Mixing:
        """One share ~ Beta(alpha, alpha) for the batch and uniformly permuted partners (arXiv 1710.09412)."""
        # The inverse distribution function, because torch's Beta takes no generator.
        uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
        return Mixing(float(betaincinv(alpha, alpha, uniform)), torch.randperm(k, generator=generator))

    def inputs(self, x: Tensor) -> Tensor:
        """``[k, ...]`` pixels or activations, mixed."""
        return self.share * x + (1 - self.share) * x[self.partner.to(x.device)]

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy to the mixed one-hot labels."""
        other = y[self.partner.to(y.device)]
        return self.share * cross_entropy(logits, y) + (1 - self.share) * cross_entropy(logits, other)
