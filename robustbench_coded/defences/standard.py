"""Standard inference: the network answers each input by itself."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustbench_coded.defences.own_copies import own_answer


class Standard:
    """The network as it is. There is no model underneath to compare it with, so ``base`` is None."""

    name = "standard"
    randomised = False
    batch_dependent = False
    base: nn.Module | None = None

    def __init__(self, model: nn.Module):
        self.model = model

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return own_answer(self.model(x))

    def logits_grouped(self, x: Tensor, draws: Sequence[None]) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes] in one forward."""
        return self.logits(x.flatten(0, 1), None).unflatten(0, x.shape[:2])
