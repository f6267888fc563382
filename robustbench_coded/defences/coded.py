"""Coded inference without randomness (arXiv 2510.00253, section 3): the batch is encoded as it came."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_coded.defences.coded_path import CodedPath


class Coded:
    """Deterministic, but an input's answer depends on its co-batched inputs and on its slot.

    Args:
        model, k, n, blocks, codec: as in ``coded_path.CodedPath``.
        name: as tables name it.
    """

    randomised = False
    batch_dependent = True

    def __init__(
        self,
        model: nn.Module,
        k: int,
        n: int | str,
        *,
        blocks: Iterable[int] | None = None,
        name: str = "coded",
        **codec: Any,
    ):
        self.name = name
        self.base: nn.Module | None = model
        self.path = CodedPath(model, k, n, blocks, **codec)
        self.n = self.path.n

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return self.path.images(k)

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.path(x.unsqueeze(0), None).squeeze(0)

    def logits_grouped(self, x: Tensor, draws: Sequence[None]) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes] in one forward."""
        return self.path(x, None)
