"""Candidates: architectures and normalisations that one file's weights fit, and what images say of each.

A network that was trained adversarially often answers more images rightly behind a wrong normalisation, and
is robust behind the right one alone. So labels order candidates for a person, and choose none.

A batch-norm stores the mean and variance that each of its channels had in training. The right network,
behind the right normalisation, reproduces these on images of the same data. A batch-norm sees only what comes
before it: the first one tells most normalisations apart, and whole networks tell the others and other forms.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from statistics import median
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from robustbench_coded.data.augment import KINDS
from robustbench_coded.models.detect import construct
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.pixel_model import PixelModel, multiplications
from robustbench_coded.models.registry import find

ANSWERED_AT_ONCE = 32  # on a CPU wide networks answer so many a third faster than 128

# Fewest and most labelled images of a candidate, and the multiplications that all of them together may cost:
# a core makes about 20e9 of these a second.
LABELLED_IMAGES, LABELLED_MULTIPLICATIONS = (64, 2048), 30e9


def unknown_parts(checkpoint: Checkpoint) -> list[str]:
    """The parts that the published definition with its weights leaves open, in words.

    Layers that an ``nn.Sequential`` numbers may be written by anybody, and the pickle that holds one names
    its activation.
    """
    of_wong = checkpoint.arch.startswith("wong-")
    return ["activations"] if of_wong and checkpoint.activation not in ("", "ReLU") else []


def networks_of(checkpoint: Checkpoint) -> list[str]:
    """The architectures that have the checkpoint's weights, as ``--arch`` takes them, the likeliest first."""
    beside = "" if ":" in checkpoint.arch else find(checkpoint.arch)[0].beside
    return [checkpoint.arch, *([f"{checkpoint.arch}{beside}"] if beside else [])]


@dataclass(frozen=True)
class Candidate:
    """A way to assemble the weights.

    Attributes:
        arch: as ``--arch`` takes it.
        normalisation: of pixels in [0, 1].
    """

    arch: str
    normalisation: Normalisation

    def __str__(self) -> str:
        taken = self.normalisation
        if taken.name == "none":
            return f"{self.arch} without normalisation"
        return f"{self.arch} with normalisation {taken if taken.name == 'custom' else taken.name}"

    @property
    def flags(self) -> str:
        """The options that state it on the command line."""
        name = self.normalisation.name
        return f"--arch '{self.arch}' --normalize {str(self.normalisation) if name == 'custom' else name}"


@dataclass(frozen=True)
class Labelled:
    """A candidate on labelled images.

    Attributes:
        rightly: [n] bool, which of the n images it answers rightly.
    """

    candidate: Candidate
    rightly: Tensor = field(compare=False, repr=False)

    @property
    def accuracy(self) -> float:
        return float(self.rightly.double().mean())

    @property
    def error(self) -> float:
        """Three standard errors of the accuracy, and half an image."""
        return 3 * (self.accuracy * (1 - self.accuracy) / len(self.rightly)) ** 0.5 + 0.5 / len(self.rightly)

    def beaten_by(self, other: "Labelled") -> bool:
        """True if the other is better by three standard errors, on the images that both answered."""
        own, others = (side.rightly[: min(len(self.rightly), len(other.rightly))] for side in (self, other))
        gained, lost = int((others & ~own).sum()), int((own & ~others).sum())
        return gained - lost > 3 * (gained + lost) ** 0.5

    def at_chance(self, classes: int) -> bool:
        """True if a network that says the same of every image may answer as many of these rightly."""
        return self.accuracy - self.error <= 1 / classes


def model_of(checkpoint: Checkpoint, candidate: Candidate, device: torch.device) -> PixelModel:
    """The candidate from pixels to logits, with the checkpoint's weights, which all candidates share."""
    network: nn.Module = checkpoint.network.to(device)
    if candidate.arch != checkpoint.arch:
        weights = network.state_dict()
        network = construct(candidate.arch, checkpoint.classes, checkpoint.channels)
        network.load_state_dict(weights, assign=True)
        network.eval().requires_grad_(False)
    taken = candidate.normalisation
    model = PixelModel(network, taken.mean, taken.std, classes=checkpoint.classes, arch=candidate.arch)
    return model.to(device)


@dataclass
class Trials:
    """Candidates of one checkpoint on the same images.

    Attributes:
        checkpoint: as loaded.
        images: [n, C, H, W] in [0, 1].
        labels: [n] int64; None where there are none.
        device: where candidates answer.
    """

    checkpoint: Checkpoint
    images: Tensor
    labels: Tensor | None
    device: torch.device

    @cached_property
    def cost(self) -> int:
        """Multiplications for one image."""
        image = self.images[:1].contiguous().to(self.device)
        return multiplications(self.checkpoint.network.to(self.device), image)

    def spread(self, count: int) -> Tensor:
        """At most so many of the images, evenly spread over all of them."""
        count = min(count, len(self.images))
        return self.images[torch.arange(count) * len(self.images) // count]

    def affordable(self, limits: tuple[int, int], total: float, candidates: int = 1) -> int:
        """Images that so many multiplications pay for, within these limits."""
        return max(limits[0], min(limits[1], int(total / (max(candidates, 1) * self.cost))))

    @torch.no_grad()
    def labelled(self, candidates: Sequence[Candidate], fewest: int = LABELLED_IMAGES[0]) -> list[Labelled]:
        """The candidates on the same first images, as many as all together can afford.

        Args:
            fewest: images that they answer whatever that takes.
        Returns:
            One for each; nothing where there are no labels.
        """
        if self.labels is None:
            return []
        most = self.affordable((fewest, LABELLED_IMAGES[1]), LABELLED_MULTIPLICATIONS, len(candidates))
        labels, rows = self.labels[:most], []
        for candidate in candidates:
            torch.manual_seed(0)  # networks that sample draw alike for every candidate
            model = model_of(self.checkpoint, candidate, self.device)
            pieces = self.images[:most].split(ANSWERED_AT_ONCE)
            answers = [model(x.to(self.device)).nan_to_num(nan=0.0).argmax(1).cpu() for x in pieces]
            rows.append(Labelled(candidate, torch.cat(answers) == labels))
        return rows


@dataclass(frozen=True)
class BatchNormEvidence:
    """How far a candidate's batch-norms are from what they remember on one kind of training images.

    Attributes:
        layers: names of the batch-norms, in the order in which they are reached.
        divergences: of each layer, the mean over its channels of the symmetric divergence between Gaussians
            of the stored and the measured mean and variance, in nats; 0 where they are equal.
        images: how many it was measured on.
    """

    candidate: Candidate
    kind: str
    layers: tuple[str, ...]
    divergences: tuple[float, ...]
    images: int

    @property
    def median(self) -> float:
        return median(self.divergences)

    @property
    def score(self) -> float:
        """One number to compare candidates by: the square of the mean root, so that every layer counts.

        A part that only the last layers see does not move the median.
        """
        return (sum(divergence**0.5 for divergence in self.divergences) / len(self.divergences)) ** 2

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
def divergences(
    model: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor, layers: int | None = None
) -> dict[str, float]:
    """Sends images through a model and compares what its batch-norms see with what they remember.

    Args:
        model: pixels to logits, in eval mode.
        network: the part of it whose batch-norms count, where they remember something.
        images: [n, C, H, W] in [0, 1], n at least 1.
        layers: stop after so many batch-norms; None for all.
    """
    norms = trained_batch_norms(network)
    names = {module: name for name, module in norms.items()}
    moments: dict[str, list[Tensor]] = {}
    batch: dict[str, list[Tensor]] = {}

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        batch.setdefault(names[cast(BatchNorm, module)], []).append(_moments_of(inputs[0]))
        if len(batch) == layers:
            raise _Enough

    with ExitStack() as hooks:
        for module in names:
            hooks.enter_context(module.register_forward_hook(see))
        for piece in images.split(ANSWERED_AT_ONCE):
            batch.clear()
            with suppress(_Enough):
                model(piece)
            for name, uses in batch.items():  # one of them, unless a layer is used several times
                moments.setdefault(name, []).append(torch.stack(uses).mean(0))
    return {name: _divergence(norms[name], torch.cat(pieces).mean(0)) for name, pieces in moments.items()}


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


by_score = attrgetter("score")

# Images for candidates by the first layer, for whole networks at first, and for those that stay close: the
# last two as many as so many multiplications pay for.
FIRST_IMAGES = (16, 64)
FEW_IMAGES, FEW_MULTIPLICATIONS = (16, 64), 4e9
FINAL_IMAGES, FINAL_MULTIPLICATIONS = (128, 1024), 20e9

TAKEN, RIVALS = 16, 4  # candidates behind which whole networks are compared, and those with more images
CLEARLY_WORSE = 4.0  # times as far as the nearest
CHANCE = 0.3  # over the number of images: so far three times the right network is, because they are few


def nearest(
    trials: Trials, candidates: Sequence[Candidate], kept: Collection[Candidate]
) -> list[BatchNormEvidence]:
    """The candidates that are not clearly worse than another, each on the kind of training images that fits
    it best, nearest first.

    Args:
        trials: of a checkpoint with trained batch-norms.
        candidates: those that come into question.
        kept: those that stay whatever comes closer.
    """

    def look(candidate: Candidate, kind: str, count: int, layers: int | None) -> BatchNormEvidence:
        torch.manual_seed(0)
        model = model_of(trials.checkpoint, candidate, trials.device)
        images = KINDS[kind](trials.spread(count), torch.Generator().manual_seed(0)).to(trials.device)
        seen = divergences(model, model.network, images, layers)
        return BatchNormEvidence(candidate, kind, tuple(seen), tuple(seen.values()), len(images))

    few = trials.affordable(FEW_IMAGES, FEW_MULTIPLICATIONS)
    most = trials.affordable(FINAL_IMAGES, FINAL_MULTIPLICATIONS)
    ends = [(candidate, kind) for candidate in candidates for kind in KINDS]
    stays = [end for end in ends if end[0] in kept]
    for count in FIRST_IMAGES:
        ends = [(one.candidate, one.kind) for one in closest([look(*end, count, 1) for end in ends])]
    ends = ends[:TAKEN]
    for count in (few, most):
        looks = sorted((look(*end, count, None) for end in dict.fromkeys([*ends, *stays])), key=by_score)
        best = sorted({one.candidate: one for one in reversed(looks)}.values(), key=by_score)
        ends = [(one.candidate, one.kind) for one in closest(best)][:RIVALS]
        stays = [(one.candidate, one.kind) for one in best if one.candidate in kept]
    return best


def closest(looks: Sequence[BatchNormEvidence]) -> list[BatchNormEvidence]:
    """The nearest, nearest first, without what is clearly worse than the first, by chance or not."""
    ordered = sorted(looks, key=by_score)
    best = ordered[0]
    limit = max(CLEARLY_WORSE * best.score, best.score + CHANCE / best.images)
    return [one for one in ordered if one.score <= limit]
