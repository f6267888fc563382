"""Coded inference (arXiv 2510.00253): without randomness (section 3), and in a secret random order (section
5).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustbench_coded.coding.codec import Codec
from robustbench_coded.coding.sizes import FEWEST, coded_size
from robustbench_coded.defences.options import refuse_small_batch
from robustbench_coded.defences.protocol import Draw
from robustbench_coded.errors import InputError
from robustbench_coded.models.pixel_model import Chain


class LayerRun(NamedTuple):
    """A stretch of the network: neighbouring blocks that are all coded, or all plain."""

    coded: bool
    f: Callable[[Tensor], Tensor]


def _runs(model: nn.Module, chosen: set[int]) -> list[LayerRun]:
    """The network cut where coding begins or ends."""
    listed = getattr(model, "blocks", None)
    if not callable(listed):
        raise InputError(f"blocks= needs a network that lists its blocks, {type(model).__name__} does not")
    blocks = list(listed())
    if not chosen or not chosen <= set(range(len(blocks))):
        raise InputError(
            f"blocks={'+'.join(map(str, sorted(chosen)))} names blocks that the network does not have; "
            f"choose from 0 to {len(blocks) - 1}"
        )
    cut = groupby(enumerate(blocks), key=lambda numbered: numbered[0] in chosen)
    return [LayerRun(coded, Chain([block for _, block in run])) for coded, run in cut]


class Coded:
    """Deterministic, but an input's answer depends on its co-batched inputs and on its slot.

    Sends batches of K inputs through the network, the coded stretches as N mixtures each.

    Args:
        model: pixels in [0, 1] -> logits; with ``blocks``, a model that has ``blocks()``.
        k: size of a full batch.
        n: coded inputs for a batch, a number or text such as ``1.5K`` (``coding.sizes``).
        blocks: numbers of the coded blocks, from 0; None codes the whole network. Neighbours are encoded and
            decoded together, so naming every block is the same as naming none.
        codec: ``nodes``, ``order``, ``smoothing_encoder``, ``smoothing_decoder`` of ``coding.codec.Codec``.
    Raises:
        InputError: k or n below 4, or blocks that the network does not have.
    """

    name = "coded"
    randomised = False
    batch_dependent = True

    def __init__(
        self,
        model: nn.Module,
        k: int,
        n: int | str,
        *,
        blocks: Iterable[int] | None = None,
        **codec: Any,
    ):
        self.base: nn.Module | None = model
        self.k, self._n_given = k, n
        self._codec_options = codec
        self._codecs: dict[int, Codec] = {}
        refuse_small_batch(k)
        try:
            self.n = coded_size(n, k)
            self.codec_for(k)
        except ValueError as error:
            raise InputError(f"coded inference with N={n} on batches of {k}: {error}") from error
        self._runs = [LayerRun(True, model)] if blocks is None else _runs(model, set(blocks))

    def codec_for(self, k: int) -> Codec:
        """The codec of a batch of ``k``, with N scaled where that is not a full one; its matrices are cached
        by value.
        """
        if k not in self._codecs:
            n = max(FEWEST, math.floor(Fraction(self.n * k, self.k) + Fraction(1, 2)))
            if k == self.k or "K" in str(self._n_given).upper():
                n = coded_size(self._n_given, k)
            self._codecs[k] = Codec(k, n, **self._codec_options)
        return self._codecs[k]

    def images(self, k: int) -> int:
        """The most images that any part of the network sees for a batch of ``k``."""
        return max(self.codec_for(k).n if run.coded else k for run in self._runs)

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        return None

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.logits_grouped(x.unsqueeze(0), [draw]).squeeze(0)

    def logits_grouped(self, x: Tensor, draws: Sequence[Draw]) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes] in one forward."""
        return self._answered(x, None)

    def logits_at(self, x: Tensor, draws: Sequence[Draw], positions: Tensor) -> Tensor:
        """One answer of each batch, [G, K, C, H, W] and int64 [G] -> [G, classes]: through the coded inputs
        that decide it, where the whole network is coded.
        """
        return self._answered_at(x, None, positions)

    def images_at(self, k: int) -> int:
        """Images through the network for one answer of a batch of ``k``."""
        codec = self.codec_for(k)
        return self.images(k) * codec.reach // codec.n if self._is_whole else self.images(k)

    @property
    def _is_whole(self) -> bool:
        return len(self._runs) == 1

    def _answered_at(self, x: Tensor, perm: Tensor | None, positions: Tensor) -> Tensor:
        if not self._is_whole:
            return self._answered(x, perm)[torch.arange(len(x)), positions]
        return self.codec_for(x.shape[1]).smoothed_at(x, self._runs[0].f, perm, positions)

    def _answered(self, x: Tensor, perm: Tensor | None) -> Tensor:
        """The logits [G, K, classes] of x [G, K, C, H, W], each run in one forward.

        Args:
            perm: int64 [G, K], the order in which each batch is encoded; every answer is put back in its
                slot. None keeps the order. Each coded run of a batch uses the same order.
        """
        groups, k = x.shape[:2]
        for run in self._runs:
            if run.coded:
                x = self.codec_for(k).smoothed(x, run.f, perm)
            else:
                x = run.f(x.flatten(0, 1)).unflatten(0, (groups, k))
        return x


class RCI(Coded):
    """Classifies a batch through N coded inputs, with a fresh permutation of its slots for every batch.

    A draw is the permutation, int64 [K]: slot s of the encoder holds input ``draw[s]``. With ``average``, it
    is several permutations, [average, K], and the logits are the mean of theirs: a defender answers every
    query several times.

    Args:
        model, k, n, codec: as in ``Coded``.
        average: permutations averaged in one prediction.
    """

    name = "rci"
    randomised = True

    def __init__(self, model: nn.Module, k: int, n: int | str, *, average: int = 1, **codec: Any):
        super().__init__(model, k, n, **codec)
        self.average = average

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return self.average * super().images(k)

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
        """A permutation of the ``k`` slots, or ``average`` of them."""
        perms = [torch.randperm(k, generator=generator, device=generator.device) for _ in range(self.average)]
        return perms[0] if self.average == 1 else torch.stack(perms)

    def logits_grouped(self, x: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """[G, K, C, H, W] -> [G, K, classes] in one forward of G x N (x average) images."""
        perm = torch.stack(list(draws))
        if self.average == 1:
            return self._answered(x, perm)
        answers = self._answered(x.repeat_interleave(self.average, dim=0), perm.flatten(0, 1))
        return answers.unflatten(0, perm.shape[:2]).mean(dim=1)

    def logits_at(self, x: Tensor, draws: Sequence[Tensor], positions: Tensor) -> Tensor:
        """As `Coded.logits_at`, under each batch's permutations."""
        perm = torch.stack(list(draws)).reshape(-1, x.shape[1])
        x, positions = (given.repeat_interleave(self.average, dim=0) for given in (x, positions))
        return self._answered_at(x, perm, positions).unflatten(0, (-1, self.average)).mean(dim=1)
