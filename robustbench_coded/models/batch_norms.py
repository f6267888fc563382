"""Statistics that batch-norms stored in training, compared with those of given images.

A batch-norm stores the mean and variance that each of its channels had in training. The right network,
behind the right normalisation, reproduces these on images of the same data. A batch-norm sees only what comes
before it: the first one tells most normalisations apart, and whole networks tell the others and other forms.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from robustbench_coded.data.augment import KINDS
from robustbench_coded.data.representative import representative_order
from robustbench_coded.models.candidates import ANSWERED_AT_ONCE, Assembly, Candidate, Stated
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.prepare import multiplies_bfloat16
from robustbench_coded.models.registry import INACTIVE, INPUT, PER_IMAGE, changed, split_variant

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

    def better_than(self, other: "BatchNormEvidence") -> bool:
        """True if it is nearer beyond chance, and by more than forms differ that answer alike."""
        return other.score > ALIKE * self.score + self.fingerprint.by_chance


# Images for normalisations by the first layer, for whole networks at first, and for those that stay close:
# the last two as many as so many multiplications pay for.
FIRST_IMAGES = (16, 64)
FEW_IMAGES, FEW_MULTIPLICATIONS = (16, 64), 4e9
FINAL_IMAGES, FINAL_MULTIPLICATIONS = (96, 512), 12e9

INPUTS_TAKEN = 8  # normalisations, each on the kind of images that fits, behind which networks are compared
RIVALS = 4  # that are taken to more images
ALIKE = 1.2  # as ReLU and ReLU6
# What is so many times worse than the best, beyond so many times what is by chance, goes no further.
CLEARLY_WORSE, CHANCES = 4.0, 3.0
RESIDUAL = 0.001  # where more is left, images may have been of another kind, or the network in another form
ROUNDS, MOST_PARTS = 2, 3  # a wrong form hides the kind of images, and a wrong kind the form; unusual parts

Input = tuple[Normalisation, str | None, str]  # its form of the input, where unusual; kind of training images


class Witness:
    """The batch-norms of one checkpoint, as a judge of candidates.

    Args:
        assembly: of the checkpoint, which has trained batch-norms.
        normalisations: those that come into question.
        stated: candidates of it are looked at whatever comes closest.
    """

    def __init__(self, assembly: Assembly, normalisations: Sequence[Normalisation], stated: Stated) -> None:
        self.assembly, self.normalisations, self.stated = assembly, normalisations, stated
        self.images = assembly.images[representative_order(assembly.images, FINAL_IMAGES[1])]
        self.few = min(assembly.affordable(FEW_IMAGES, FEW_MULTIPLICATIONS), len(self.images))
        self._kinds: dict[str, Tensor] = {}
        self._seen: dict[tuple[Candidate, str, int, bool], Fingerprint] = {}

    def nearest(self) -> list[BatchNormEvidence]:
        """The nearest candidate and the nearest stated one, on the kind of images that fits each best."""
        usual = split_variant(self.assembly.checkpoint.arch)[0]
        stated = [self.stated.arch] if self.stated.arch else []
        likely = self._likely(usual)
        inputs = list({entry[:2]: entry for entry in reversed(likely)}.values())[::-1][:INPUTS_TAKEN]
        if (normalisation := self.stated.normalisation) is not None:
            inputs += [(normalisation, None, kind) for kind in dict.fromkeys(entry[2] for entry in inputs)]
        ends = [_end(arch, entry) for arch in dict.fromkeys([usual, *stated]) for entry in inputs]
        fits = self._best_kinds(ends, self.few)
        for _ in range(ROUNDS):
            if fits[0].fingerprint.excess <= RESIDUAL or self.assembly.samples:
                break
            leaders = [fit.candidate for fit in self._going_on(fits)[:3]]
            ends += [(c, kind) for c in leaders for known, _, kind in likely if known == c.normalisation]
            best = self._best_form(self._best_kinds(ends, self.few)[0])
            ends += [(best.candidate, best.kind), *(_end(best.candidate.arch, entry) for entry in inputs)]
            fits = self._best_kinds(ends, self.few)
        count, most = self.few, self.assembly.affordable(FINAL_IMAGES, FINAL_MULTIPLICATIONS)
        while count < min(most, len(self.images)):
            count = min(2 * count, most, len(self.images))
            fits = self._best_kinds([(fit.candidate, fit.kind) for fit in self._going_on(fits)], count)
        return fits

    def unseen(self, arch: str) -> list[str]:
        """Parts of a variant whose form no batch-norm sees, such as a pooling before the last layer.

        That an activation is there is taken for granted: labels contradict it where it is not.
        """
        assembly, any_one = self.assembly, self.normalisations[0]
        seen = {
            part: {self._look(Candidate(form, any_one), "plain", 2).divergences for form in forms[:3]}
            for part, forms in ((part, assembly.forms(arch, part)) for part in assembly.parts)
            if part != INACTIVE
        }
        return [part for part, divergences in seen.items() if len(divergences) == 1]

    def _look(self, candidate: Candidate, kind: str, count: int, *, first: bool = False) -> Fingerprint:
        """The candidate's batch-norms, or the first one, on the first ``count`` images of that kind."""
        key = (candidate, kind, count, first)
        if key not in self._seen:
            if kind not in self._kinds:
                generator = torch.Generator().manual_seed(0)
                self._kinds[kind] = KINDS[kind](self.images.clone(), generator)
            device = self.assembly.device
            rounds = multiplies_bfloat16(device) and not self.assembly.samples
            torch.manual_seed(0)
            # Rounding moves a score by less than a tenth of what is by chance.
            with torch.autocast(device.type, torch.bfloat16, enabled=rounds):
                norms = trained_batch_norms(self.assembly.network(candidate.arch))
                images, layers = self._kinds[kind][:count].to(device), 1 if first else None
                self._seen[key] = fingerprint(self.assembly.model(candidate), norms, images, layers)
        return self._seen[key]

    def _likely(self, arch: str) -> list[Input]:
        """Normalisations with kinds of images, best first by the first batch-norm."""
        channels = self.assembly.checkpoint.channels
        per_image = Normalisation("none", (0.0,) * channels, (1.0,) * channels), PER_IMAGE
        inputs: list[tuple[Normalisation, str | None]] = [(norm, None) for norm in self.normalisations]
        inputs += [per_image] if self.assembly.parts else []
        pool: list[Input] = [(*row, kind) for row in inputs for kind in KINDS]
        for images in FIRST_IMAGES:
            count = min(images, len(self.images))
            pool = not_clearly_worse((self._look(*_end(arch, row), count, first=True), row) for row in pool)
        return pool

    def _best_form(self, best: BatchNormEvidence) -> BatchNormEvidence:
        """The same with one part after the other in another form, while that is clearly better."""
        for _ in range(MOST_PARTS if self.assembly.parts else 0):
            forms = self.assembly.one_part_away(best.candidate.arch)
            ends = [(replace(best.candidate, arch=form), best.kind) for form in forms]
            few = self._best_kinds(ends, max(8, self.few // 4))[: 2 * RIVALS]
            fits = self._best_kinds([(fit.candidate, fit.kind) for fit in few], self.few)
            if not fits[0].better_than(best):
                break
            alike = [fit for fit in fits if not fits[0].better_than(fit)]
            best = min(alike, key=lambda fit: (fit.candidate.unusual_parts, fit.score))
        return best

    def _going_on(self, fits: Sequence[BatchNormEvidence]) -> list[BatchNormEvidence]:
        """What is not clearly worse than the nearest one, and the nearest one that is stated."""
        near = not_clearly_worse((fit.fingerprint, fit) for fit in fits)
        usual = min(near, key=lambda fit: fit.candidate.unusual_parts)
        stated = [fit for fit in fits if self.stated.allows(fit.candidate)][:1]
        return list(dict.fromkeys([*near[:RIVALS], usual, *stated]))

    def _best_kinds(self, ends: Iterable[tuple[Candidate, str]], count: int) -> list[BatchNormEvidence]:
        """Each candidate on the kind of images that fits it best, nearest first."""
        fits = sorted(
            (BatchNormEvidence(*end, self._look(*end, count)) for end in ends), key=lambda fit: fit.score
        )
        return list({fit.candidate: fit for fit in reversed(fits)}.values())[::-1]


def _end(arch: str, given: Input) -> tuple[Candidate, str]:
    """The variant behind that input, and the kind of images that it is compared on."""
    normalisation, form, kind = given
    return Candidate(changed(arch, INPUT, form) if form else arch, normalisation), kind


def not_clearly_worse(scored: Iterable[tuple[Fingerprint, T]]) -> list[T]:
    """The best, best first, without what is clearly worse than the first of them.

    What the best score owes to the small number of images is taken off before it is multiplied.
    """
    ordered = sorted(scored, key=lambda entry: entry[0].score)
    best = ordered[0][0]
    limit = best.score + (CLEARLY_WORSE - 1) * best.excess + CHANCES * best.by_chance
    return [item for fingerprint, item in ordered if fingerprint.score <= limit]
