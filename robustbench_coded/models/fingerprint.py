"""What batch-norms remember of training, compared with what they see, and which assemblies that makes
clearly worse.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from robustbench_coded.models.labelled_accuracy import BATCH, STANDARD_ERRORS

IN_CACHE = 1 << 19  # numbers whose moments are taken at once: four times as many take twice as long each

# The score of a right network on n images of ``representative_order`` is about this divided by n, because
# they are few: 0.08 to 0.13 on convolutional networks of CIFAR-10.
FEW = 0.1

# The images are divided into so many groups: what a score becomes without each of them says how much it owes
# to these images and not others.
GROUPS = 8


@dataclass(frozen=True)
class Fingerprint:
    """How far a network's batch-norms are from what they remember, in the order in which they are reached.

    Attributes:
        layers: names of the batch-norms.
        divergences: of each layer, the mean over its channels of the symmetric divergence between Gaussians
            of the stored and the measured mean and variance, in nats; 0 where they are equal.
        images: how many it was measured on.
        without: the score without the first, second, ... of GROUPS groups of images (jackknife).
    """

    layers: tuple[str, ...]
    divergences: tuple[float, ...]
    images: int
    without: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """Over the layers."""
        return median(self.divergences)

    @cached_property
    def score(self) -> float:
        """One number to compare candidates by: the square of the mean root, so that every layer counts.

        A part that only the last layers see does not move the median.
        """
        return _score(self.divergences)

    @property
    def by_chance(self) -> float:
        """What a right network's score is because there are so few images."""
        return FEW / self.images

    @property
    def excess(self) -> float:
        """The score that infinitely many images would leave, by the jackknife; at least 0."""
        if not self.without:
            return max(0.0, self.score - self.by_chance)
        count = len(self.without)
        return max(0.0, count * self.score - (count - 1) * sum(self.without) / count)

    def error_beside(self, other: "Fingerprint") -> float:
        """The standard error of the difference of two scores on the same images, by the jackknife.

        What both owe to the choice of images is in neither: on few images already, near copies part.
        """
        if not self.without or len(self.without) != len(other.without):
            return max(self.by_chance, other.by_chance)
        count = len(self.without)
        differences = [a - b for a, b in zip(self.without, other.without, strict=True)]
        mean = sum(differences) / count
        return float(((count - 1) / count * sum((one - mean) ** 2 for one in differences)) ** 0.5)

    @property
    def largest(self) -> float:
        return max(self.divergences)

    def departs_at(self, limit: float) -> str | None:
        """The first layer beyond ``limit``; None where no layer is."""
        pairs = zip(self.layers, self.divergences, strict=True)
        return next((name for name, divergence in pairs if divergence > limit), None)


class Enough(Exception):
    """Raised by what ``watched`` calls: the rest of the answer is of no use."""


@contextmanager
def watched(modules: Iterable[nn.Module], see: Callable[[nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    """Inside, ``see`` is called with a module, its input and its output whenever one of these answers."""

    def answered(module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> None:
        see(module, inputs[0], output)

    handles = [module.register_forward_hook(answered) for module in modules]
    try:
        with suppress(Enough):
            yield
    finally:
        for handle in handles:
            handle.remove()


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


# By name of a batch-norm, in the order in which they are reached: first and second moment of each image and
# channel, [2, images, channels], a piece for every batch.
Moments = dict[str, list[Tensor]]


@torch.no_grad()
def moments_seen(
    model: Callable[[Tensor], Tensor],
    norms: dict[str, BatchNorm],
    images: Tensor,
    layers: int | None = None,
) -> Moments:
    """Sends images [n, C, H, W] through a model and keeps what its batch-norms see.

    Args:
        model: pixels to logits, in eval mode.
        norms: by name; some of its modules.
        layers: stop after so many; None for all.
    """
    moments: Moments = {}
    batch_moments: Moments = {}

    names: dict[nn.Module, str] = {module: name for name, module in norms.items()}

    def see(module: nn.Module, x: Tensor, output: Tensor) -> None:
        batch_moments.setdefault(names[module], []).append(_moments_of(x))
        if len(batch_moments) == layers:
            raise Enough

    for batch in images.split(BATCH if images.device.type == "cpu" else 4 * BATCH):
        batch_moments.clear()
        with watched(names, see):
            model(batch)
        for name, uses in batch_moments.items():  # one of them, unless a layer is used several times
            moments.setdefault(name, []).append(torch.stack(uses).mean(0))
    return moments


def _moments_of(x: Tensor) -> Tensor:
    """[2, images, channels] of activations [images, channels, ...]."""
    x = x if x.ndim > 2 else x[..., None]
    pixels = tuple(range(2, x.ndim))
    found = []
    for piece in x.split(max(1, IN_CACHE // max(1, x[:1].numel()))):
        # A copy, squared in place: a second tensor of this size takes longer than all else here.
        piece = piece.to(torch.float32, copy=True)
        found.append(torch.stack([piece.mean(pixels), piece.square_().mean(pixels)]))
    return torch.cat(found, 1).cpu().double()


def fingerprint_of(moments: Moments, norms: dict[str, BatchNorm]) -> Fingerprint:
    """What was seen beside what is remembered."""
    layers = [torch.cat(pieces, 1) for pieces in moments.values()]
    images = layers[-1].shape[1]
    # All layers at once, unless some see more than images: one by one, those of a deep network take longer
    # than a few images.
    groups = [torch.cat(layers, 2)] if all(layer.shape[1] == images for layer in layers) else layers
    # The mean of each image's own moments: images weigh alike, whatever the layer's size.
    means = torch.cat([_over_groups(seen.transpose(0, 1)) for seen in groups], 2)
    found = torch.stack(_divergences([norms[name] for name in moments], means), 1).tolist()
    return Fingerprint(tuple(moments), tuple(found[0]), images, tuple(_score(one) for one in found[1:]))


def _score(divergences: Sequence[float]) -> float:
    return (sum(divergence**0.5 for divergence in divergences) / len(divergences)) ** 2


def _over_groups(seen: Tensor) -> Tensor:
    """Of ``seen`` [images, ...] the means over all images, then over all but each group.

    Returns:
        [1 + groups, ...]; there are no groups where they would be of one image.
    """
    images = len(seen)
    total = seen.sum(0)
    means = [total / images]
    if images >= 2 * GROUPS:
        for group in seen.tensor_split(GROUPS):
            means.append((total - group.sum(0)) / (images - len(group)))
    return torch.stack(means)


def _divergences(norms: Sequence[BatchNorm], moments: Tensor) -> list[Tensor]:
    """Of each layer [n] means over its channels, of the symmetric divergence between Gaussians of the stored
    and of the measured mean and variance.

    Args:
        moments: [n, 2, channels] of the first and second order, the channels of all layers side by side.
    """
    sizes = [norm.num_features for norm in norms]
    mean, second = moments.unbind(1)
    # What the layer divides by; it also keeps channels without any variance from deciding.
    eps = torch.cat([mean.new_full((norm.num_features,), norm.eps) for norm in norms])
    variance = (second - mean**2).clamp(min=0) + eps
    stored_mean = torch.cat([cast(Tensor, norm.running_mean) for norm in norms]).to(mean)
    stored_variance = torch.cat([cast(Tensor, norm.running_var) for norm in norms]).to(mean) + eps
    ratio = stored_variance / variance
    apart = (stored_mean - mean) ** 2 * (1 / variance + 1 / stored_variance)
    per_channel = (ratio + 1 / ratio - 2 + apart) / 2
    per_channel = per_channel.nan_to_num(nan=1e9, posinf=1e9).clamp(max=1e9)
    return [layer.mean(1) for layer in per_channel.split(sizes, 1)]


# What is so many times worse than the best goes no further. Where the best is bad itself, another part is
# wrong as well, and the comparison says less.
CLEARLY_WORSE = 4.0
CLEARLY_WORSE_THAN_BAD = 10.0
BAD = 0.02

# Forms of one part that differ by less are as good as alike, as ReLU and ReLU6.
ALIKE = 1.2

Item = TypeVar("Item")


def not_clearly_worse(
    scored: Iterable[tuple[Fingerprint, Item]], most: int, *, margin: float | None = None
) -> list[Item]:
    """The best, best first, without what is clearly worse than the first of them.

    What a score owes to the small number of images is taken off the best one before it is multiplied.

    Args:
        margin: how many times chance a difference may be; None for STANDARD_ERRORS of each difference.
    """
    ordered = sorted(scored, key=lambda entry: entry[0].score)
    best = ordered[0][0]
    times = CLEARLY_WORSE if best.excess < BAD else CLEARLY_WORSE_THAN_BAD

    def close(one: Fingerprint) -> bool:
        chance = STANDARD_ERRORS * one.error_beside(best) if margin is None else margin * best.by_chance
        return one.score <= best.score + (times - 1) * best.excess + chance

    return [item for one, item in ordered[:most] if close(one)]


def not_told_apart(one: Fingerprint, best: Fingerprint) -> bool:
    """Whether a form of a part is not told from the best one."""
    return one.score - best.score <= max((ALIKE - 1) * best.score, STANDARD_ERRORS * one.error_beside(best))
