"""Statistics that batch-norms stored in training, compared with those of given images.

A batch-norm stores the mean and variance that each of its channels had in training. The right network,
behind the right normalisation, reproduces these on images of the same data. A batch-norm sees only what comes
before it: the first one tells most normalisations apart, and whole networks tell the others and other forms.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from robustbench_coded.data.augment import KINDS
from robustbench_coded.data.representative import representative_order
from robustbench_coded.models.candidates import ANSWERED_AT_ONCE, Candidate, Trials
from robustbench_coded.models.prepare import multiplies_bfloat16

FEW = (
    0.1  # a right network's score on n representative images is about this divided by n, because they are few
)

T = TypeVar("T")


@dataclass(frozen=True)
class Fingerprint:
    """How far a network's batch-norms are from what they remember, in the order in which they are reached.

    Attributes:
        layers: names of the batch-norms.
        divergences: of each layer, the mean over its channels of the symmetric divergence between Gaussians
            of the stored and the measured mean and variance, in nats; 0 where they are equal.
        images: how many it was measured on.
    """

    layers: tuple[str, ...]
    divergences: tuple[float, ...]
    images: int

    @property
    def median(self) -> float:
        return median(self.divergences)

    @cached_property
    def score(self) -> float:
        """One number to compare candidates by: the square of the mean root, so that every layer counts.

        A part that only the last layers see does not move the median.
        """
        return (sum(divergence**0.5 for divergence in self.divergences) / len(self.divergences)) ** 2

    @property
    def by_chance(self) -> float:
        """The score of the correct network due to the small number of images."""
        return FEW / self.images

    @property
    def excess(self) -> float:
        """The score less the part that is due to the number of images."""
        return max(0.0, self.score - self.by_chance)

    def departs_at(self, limit: float) -> str:
        """The first layer beyond ``limit``; the furthest where none is."""
        pairs = list(zip(self.layers, self.divergences, strict=True))
        furthest = max(pairs, key=lambda pair: pair[1])[0]
        return next((name for name, divergence in pairs if divergence > limit), furthest)


def trained_batch_norms(network: nn.Module) -> dict[str, BatchNorm]:
    """The batch-norms that remember something.

    A fresh layer does not, nor one folded into the convolution before it: means 0, variances all the same.
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, BatchNorm)
        and module.running_mean is not None
        and module.running_var is not None
        and not (
            bool((module.running_mean == 0).all())
            and bool(((module.running_var - 1).abs() < 1e-3).all())
            and bool((module.running_var == module.running_var[0]).all())
        )
    }


class _Enough(Exception):
    """What follows in a forward pass is of no use."""


@torch.no_grad()
def fingerprint(
    model: Callable[[Tensor], Tensor],
    norms: Mapping[str, BatchNorm],
    images: Tensor,
    layers: int | None = None,
) -> Fingerprint:
    """Sends images through a model and compares what its batch-norms see with what they remember.

    Args:
        model: pixels to logits, in eval mode.
        norms: by name; some of its modules, which remember something.
        images: [n, C, H, W] in [0, 1], n at least 1.
        layers: stop after so many batch-norms; None for all.
    """
    names = {module: name for name, module in norms.items()}
    moments: dict[str, list[Tensor]] = {}
    batch: dict[str, list[Tensor]] = {}

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        batch.setdefault(names[cast(BatchNorm, module)], []).append(_moments_of(inputs[0]))
        if len(batch) == layers:
            raise _Enough

    handles = [module.register_forward_hook(see) for module in norms.values()]
    try:
        for piece in images.split(ANSWERED_AT_ONCE):
            batch.clear()
            with suppress(_Enough):
                model(piece)
            for name, uses in batch.items():  # one of them, unless a layer is used several times
                moments.setdefault(name, []).append(torch.stack(uses).mean(0))
    finally:
        for handle in handles:
            handle.remove()
    divergences = [_divergence(norms[name], torch.cat(pieces).mean(0)) for name, pieces in moments.items()]
    return Fingerprint(tuple(moments), tuple(divergences), len(images))


def _moments_of(x: Tensor) -> Tensor:
    """[images, 2, channels] first and second moments of activations [images, channels, ...]."""
    x = x.float() if x.ndim > 2 else x[..., None].float()
    pixels = tuple(range(2, x.ndim))
    return torch.stack([x.mean(pixels), x.square().mean(pixels)], 1).cpu().double()


def _divergence(norm: BatchNorm, moments: Tensor) -> float:
    """The mean over the channels of the symmetric divergence between Gaussians of the stored and of the
    measured mean and variance.

    Args:
        moments: [2, channels] of the first and second order.
    """
    mean, second = moments
    # With what the layer divides by; it also keeps channels without any variance from deciding.
    variance = (second - mean**2).clamp(min=0) + norm.eps
    stored_mean = cast(Tensor, norm.running_mean).cpu().double()
    stored_variance = cast(Tensor, norm.running_var).cpu().double() + norm.eps
    ratio = stored_variance / variance
    apart = (stored_mean - mean) ** 2 * (1 / variance + 1 / stored_variance)
    per_channel = (ratio + 1 / ratio - 2 + apart) / 2
    return float(per_channel.nan_to_num(nan=1e9, posinf=1e9).clamp(max=1e9).mean())


@dataclass(frozen=True)
class BatchNormEvidence:
    """A candidate, and how far its batch-norms are from what they remember on one kind of training images."""

    candidate: Candidate
    kind: str
    fingerprint: Fingerprint

    @property
    def score(self) -> float:
        return self.fingerprint.score


# Images for candidates by the first layer, for whole networks at first, and for those that stay close: the
# last two as many as so many multiplications pay for.
FIRST_IMAGES = (16, 64)
FEW_IMAGES, FEW_MULTIPLICATIONS = (16, 64), 4e9
FINAL_IMAGES, FINAL_MULTIPLICATIONS = (96, 512), 12e9

TAKEN = 16  # pairs of a candidate and a kind of images behind which whole networks are compared
RIVALS = 4  # that are taken to more images
# What is so many times worse than the best, beyond so many times what is by chance, goes no further.
CLEARLY_WORSE, CHANCES = 4.0, 3.0

End = tuple[Candidate, str]


def nearest(
    trials: Trials, candidates: Iterable[Candidate], kept: Collection[Candidate]
) -> list[BatchNormEvidence]:
    """The candidates that are not clearly worse than another, each on the kind of training images that fits
    it best, nearest first.

    Args:
        trials: of a checkpoint with trained batch-norms.
        candidates: those that come into question.
        kept: those that stay whatever comes closer.
    """
    images = trials.images[representative_order(trials.images, FINAL_IMAGES[1])]
    few = min(trials.affordable(FEW_IMAGES, FEW_MULTIPLICATIONS), len(images))
    most = min(trials.affordable(FINAL_IMAGES, FINAL_MULTIPLICATIONS), len(images))
    kinds = {kind: make(images.clone(), torch.Generator().manual_seed(0)) for kind, make in KINDS.items()}
    device = trials.device
    # Rounding moves a score by less than a tenth of what is by chance.
    rounds = multiplies_bfloat16(device) and not trials.samples

    def look(end: End, count: int, layers: int | None = None) -> Fingerprint:
        torch.manual_seed(0)
        with torch.autocast(device.type, torch.bfloat16, enabled=rounds):
            model = trials.model(end[0])
            norms = trained_batch_norms(model.network)
            return fingerprint(model, norms, kinds[end[1]][:count].to(device), layers)

    ends = [(candidate, kind) for candidate in candidates for kind in kinds]
    stays = [end for end in ends if end[0] in kept]
    for count in FIRST_IMAGES:
        ends = not_clearly_worse((look(end, min(count, len(images)), 1), end) for end in ends)
    ends, count = ends[:TAKEN], few
    while True:
        looks = [(look(end, count), end) for end in dict.fromkeys([*ends, *stays])]
        looks = sorted(looks, key=lambda entry: entry[0].score, reverse=True)
        best = list({end[0]: (seen, end) for seen, end in looks}.values())[::-1]  # on the kind that fits best
        best.sort(key=lambda entry: entry[0].score)
        if count >= most:
            return [BatchNormEvidence(*end, seen) for seen, end in best]
        ends = not_clearly_worse(best)[:RIVALS]
        stays = [end for _, end in best if end[0] in kept]
        count = min(2 * count, most)


def not_clearly_worse(scored: Iterable[tuple[Fingerprint, T]]) -> list[T]:
    """The best, best first, without what is clearly worse than the first of them.

    What the best score owes to the small number of images is taken off before it is multiplied.
    """
    ordered = sorted(scored, key=lambda entry: entry[0].score)
    best = ordered[0][0]
    limit = best.score + (CLEARLY_WORSE - 1) * best.excess + CHANCES * best.by_chance
    return [item for fingerprint, item in ordered if fingerprint.score <= limit]
