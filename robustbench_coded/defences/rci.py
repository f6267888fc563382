"""Randomised coded inference (arXiv 2510.00253, section 5): the batch is encoded in a secret random order."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_coded.defences.coded_path import CodedPath


class RCI:
    """Answers a batch through N coded inputs, its slots shuffled anew for every batch.

    A draw is the permutation, int64 [K]: slot s of the encoder holds input ``draw[s]``. With ``average`` it
    is that many permutations, [average, K], and the logits are the mean of theirs: what a defender gains by
    answering every query several times.

    Args:
        model, k, n, blocks, codec: as in ``coded_path.CodedPath``.
        average: permutations averaged inside one answer.
        name: as tables name it.
    """

    randomised = True
    batch_dependent = True

    def __init__(
        self,
        model: nn.Module,
        k: int,
        n: int | str,
        *,
        average: int = 1,
        blocks: Iterable[int] | None = None,
        name: str = "rci",
        **codec: Any,
    ):
        self.name = name
        self.base: nn.Module | None = model
        self.average = average
        self.path = CodedPath(model, k, n, blocks, **codec)
        self.n = self.path.n

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return self.average * self.path.images(k)

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
        """A permutation of the ``k`` slots, or ``average`` of them."""
        if self.average == 1:
            return torch.randperm(k, generator=generator)
        return torch.stack([torch.randperm(k, generator=generator) for _ in range(self.average)])

    def logits(self, x: Tensor, draw: Tensor) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.logits_grouped(x.unsqueeze(0), [draw]).squeeze(0)

    def logits_grouped(self, x: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes] in one forward of G x N (x average) images."""
        perm = torch.stack(list(draws))
        if self.average == 1:
            return self.path(x, perm)
        answers = self.path(x.repeat_interleave(self.average, dim=0), perm.flatten(0, 1))
        return answers.unflatten(0, perm.shape[:2]).mean(dim=1)
