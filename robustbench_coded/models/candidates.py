"""Candidates: ways to assemble one file's weights, as variants behind normalisations, with the
fingerprints of each.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor, nn

from robustbench_coded.data.augment import images_of_kind
from robustbench_coded.errors import InputError
from robustbench_coded.models import registry
from robustbench_coded.models.build import construct, give_places
from robustbench_coded.models.checkpoint import Checkpoint
from robustbench_coded.models.fingerprint import (
    BatchNorm,
    Fingerprint,
    Moments,
    fingerprint_of,
    moments_seen,
    trained_batch_norms,
)
from robustbench_coded.models.labelled_accuracy import BATCH
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.pixel_model import OtherInput, PixelModel
from robustbench_coded.models.prepare import multiplies_bfloat16
from robustbench_coded.models.registry import INPUT, changed, split_variant, unchanged

BLOCK = 16
DRAWN = 1000
DIRECTIONS = 8  # of the features, those in which images differ most
POOL = 1024


@torch.no_grad()
def representative_order(images: Tensor, count: int) -> Tensor:
    """Indices of at most ``count`` images [n, C, H, W], the same each time; all n where there are so few."""
    features = _features(images)
    centred = (features - features.mean(0)) / features.std(0, correction=0).clamp(min=1e-12)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    along = centred @ vectors[:, -DIRECTIONS:]
    along = along / along.std(0, correction=0).clamp(min=1e-12)
    generator = torch.Generator().manual_seed(0)
    left = torch.randperm(len(images), generator=generator)[: max(POOL, count)]
    total, blocks = along.new_zeros(along.shape[1]), list[Tensor]()
    while len(left) >= 2 * BLOCK and len(blocks) * BLOCK < count:
        blocks_in_one = len(left) // BLOCK
        shuffled = [torch.randperm(len(left), generator=generator) for _ in range(-(-DRAWN // blocks_in_one))]
        drawn = torch.cat([order[: blocks_in_one * BLOCK].view(-1, BLOCK) for order in shuffled])
        sums = total + along[left[drawn]].sum(1)
        best = int(sums.square().sum(1).argmin())
        blocks.append(left[drawn[best]])
        total = sums[best]
        left = left[~torch.isin(torch.arange(len(left)), drawn[best])]
    return torch.cat([*blocks, left])[: min(count, len(images))]


def _features(images: Tensor) -> Tensor:
    """[n, features]: moments of the pixels of each image and of pixels one and two apart."""
    x = images.float()
    flat = x.flatten(2)
    covariances = torch.einsum("nci,ndi->ncd", flat, flat) / flat.shape[2]
    one, other = torch.triu_indices(x.shape[1], x.shape[1])
    found = [flat.mean(2), covariances[:, one, other]]
    for apart in (1, 2):
        found.append((x[..., apart:] * x[..., :-apart]).mean((2, 3)))
        found.append((x[:, :, apart:] * x[:, :, :-apart]).mean((2, 3)))
    return torch.cat(found, 1).double()


# Images are made as in training so many at a time, so that more of them begin with the same ones.
PIECE = 16

MOST_IMAGES = 512  # whose batch-norms are looked at

SMALL_BATCH = 256  # of networks so small that a call takes as long as its layers


@dataclass(frozen=True)
class Candidate:
    """A way to assemble the weights.

    Attributes:
        arch: a variant of the architecture, as ``--arch`` takes it.
        normalisation: of pixels in [0, 1].
    """

    arch: str
    normalisation: Normalisation

    def __str__(self) -> str:
        return f"{self.arch} {self.normalisation.described}"


@dataclass(frozen=True)
class FirstConvolution:
    """The one convolution before a variant's first batch-norm.

    Attributes:
        turned: whether it takes the image's channels reversed.
        name: of the batch-norm.
        norm: the batch-norm.
    """

    convolution: nn.Conv2d
    turned: bool
    name: str
    norm: BatchNorm


@dataclass
class Assembly:
    """Builds candidates of one checkpoint, and looks at their batch-norms.

    Attributes:
        checkpoint: as loaded; its weights are shared by all candidates.
        images: [n, C, H, W] in [0, 1].
        device: where candidates answer.
        at_once: images that ``answers`` should be given at once.
        first_convolutions: by variant, of those that were looked at; None where there is no such one.
    """

    checkpoint: Checkpoint
    images: Tensor
    device: torch.device
    at_once: int = BATCH
    first_convolutions: dict[str, FirstConvolution | None] = field(default_factory=dict)
    _networks: dict[tuple[str, bool], nn.Module] = field(default_factory=dict)
    _models: dict[Candidate, PixelModel] = field(default_factory=dict)
    _norms: dict[str, dict[str, BatchNorm]] = field(default_factory=dict)
    _inputs: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    @cached_property
    def balanced(self) -> Tensor:
        """[n, C, H, W] at most MOST_IMAGES of them, of which the first stand for all."""
        return self.images[representative_order(self.images, MOST_IMAGES)]

    @cached_property
    def variants(self) -> Mapping[str, tuple[str | int, ...]]:
        """The parts of the architecture that leave no trace in its weights, with their other forms."""
        try:
            return registry.find(self.checkpoint.arch)[0].variants
        except InputError:  # of the user's own code
            return {}

    def model(self, candidate: Candidate) -> PixelModel:
        """The candidate, from pixels to logits."""
        if candidate not in self._models:
            mean, std = candidate.normalisation.mean, candidate.normalisation.std
            network, classes = self.network(candidate.arch), self.checkpoint.classes
            model = PixelModel(network, mean, std, classes=classes, arch=candidate.arch)
            self._models[candidate] = model.to(self.device)
        return self._models[candidate]

    def answers(self, candidate: Candidate, *, rounded: bool = False) -> Callable[[Tensor], Tensor]:
        """What ``model`` answers, without making one, which takes longer than a few images.

        Args:
            rounded: by a network that is called inside ``bfloat16`` alone.
        """
        network, normalisation = self.network(candidate.arch, rounded=rounded), candidate.normalisation
        mean, std = (
            torch.tensor(part, device=self.device).view(1, -1, 1, 1)
            for part in (normalisation.mean, normalisation.std)
        )
        if "pooling" in self.variants and not rounded:
            # Pooling of images whose channels lie together takes a third of the time.
            return lambda x: network(((x - mean) / std).to(memory_format=torch.channels_last))
        return lambda x: network((x - mean) / std)

    def network(self, arch: str, *, rounded: bool = False) -> nn.Module:
        """The network of a variant with the checkpoint's weights, on the device.

        Args:
            rounded: with those of convolutions and linear layers as ``bfloat16`` multiplies them. Otherwise
                they are rounded again for every batch, which takes as long as some ten images.

        Raises:
            InputError: there is no such variant.
        """
        checkpoint = self.checkpoint
        # What the user's own code does with its weights is not known.
        key = arch, rounded and self._rounds and bool(self.variants)
        if key not in self._networks and key == (checkpoint.arch, False):
            self._networks[key] = checkpoint.network.eval().requires_grad_(False).to(self.device)
        if key not in self._networks and (form := split_variant(arch)[1].get(INPUT)):
            inner = self.network(unchanged(arch, INPUT), rounded=rounded)
            self._networks[key] = OtherInput(inner, form).eval()
        if key not in self._networks:
            built = construct(arch, checkpoint.classes, checkpoint.channels, checkpoint.image_size)
            weights = self._rounded_weights if key[1] else self._weights
            give_places(built, weights)
            modules = dict(built.named_modules())
            for name, weight in weights.items():  # load_state_dict takes longer than a few images
                scope, _, last = name.rpartition(".")
                module = modules[scope]
                # Its assignment looks at all that a module may be given, twenty times as long.
                kept = module._parameters if last in module._parameters else module._buffers
                kept[last] = weight
            self._networks[key] = built.eval()
        return self._networks[key]

    @cached_property
    def _trained(self) -> nn.Module:
        """The checkpoint's own network, on the device, without what comes before its first layer."""
        trained = self.checkpoint.network
        network = trained.network if isinstance(trained, OtherInput) else trained
        return network.requires_grad_(False).to(self.device)

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        """Parameters and buffers of the checkpoint, on the device; all variants share them."""
        return {**dict(self._trained.named_parameters()), **dict(self._trained.named_buffers())}

    @cached_property
    def _rounded_weights(self) -> dict[str, Tensor]:
        """The same, those of plain convolutions and linear layers in bfloat16."""
        layers = {
            f"{name}.weight": module
            for name, module in self._trained.named_modules()
            if type(module) in (nn.Conv2d, nn.Linear)
        }
        found = dict(self._weights)
        for name, module in layers.items():
            weight = module.weight.to(torch.bfloat16)
            if isinstance(module, nn.Conv2d):
                weight = weight.to(memory_format=torch.channels_last)
            found[name] = nn.Parameter(weight, requires_grad=False)
        return found

    @cached_property
    def _rounds(self) -> bool:
        return multiplies_bfloat16(self.device) and not self.samples

    def inputs(self, kind: str, start: int, end: int) -> Tensor:
        """Those images as in that kind of training, on the device; ``start`` and ``end`` as in a slice."""
        pieces = []
        for number in range(start // PIECE, -(-min(end, len(self.balanced)) // PIECE)):
            first = number * PIECE
            if (kind, number) not in self._inputs:
                images = images_of_kind(kind, self.balanced[first : first + PIECE], seed=number)
                self._inputs[kind, number] = images.to(self.device)
            pieces.append(self._inputs[kind, number][max(0, start - first) : end - first])
        return torch.cat(pieces)

    @property
    def samples(self) -> bool:
        """Whether the network draws in every answer."""
        return bool(getattr(self.checkpoint.network, "samples", False))

    def bfloat16(self) -> torch.autocast:
        """Inside it, networks multiply bfloat16 where the processor does; those that sample never."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._rounds)

    def norms(self, arch: str) -> dict[str, BatchNorm]:
        """A variant's batch-norms that remember something."""
        if arch not in self._norms:
            self._norms[arch] = trained_batch_norms(self.network(arch, rounded=True))
        return self._norms[arch]

    def fingerprint(
        self, candidate: Candidate, kind: str, count: int, layers: int | None, moments: Moments
    ) -> Fingerprint:
        """The candidate's batch-norms, of which it has some, on ``count`` images of that kind.

        Args:
            moments: what the first of these images have shown; the others are added.
        """
        norms = self.norms(candidate.arch)
        seen = sum(piece.shape[1] for piece in next(iter(moments.values()), []))
        if seen < count:
            # Rounding moves a score by less than a tenth of what is by chance.
            with self.bfloat16():
                new = moments_seen(
                    self.answers(candidate, rounded=True), norms, self.inputs(kind, seen, count), layers
                )
            for name, pieces in new.items():
                moments.setdefault(name, []).extend(pieces)
        return fingerprint_of(moments, norms)


@torch.no_grad()
def multiplications(model: PixelModel, image: Tensor) -> int:
    """Multiplications of convolutions and linear layers for one image [1, C, H, W]."""
    counted = [0]

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        # Each output is a product with one filter, or one row.
        counted[0] += output.numel() * weight[0].numel()

    handles = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    try:
        model(image)
    finally:
        for handle in handles:
            handle.remove()
    return counted[0]


class Fingerprints:
    """What the batch-norms of candidates remember and see; what was seen is kept.

    Args:
        assembly: of the checkpoint, with images.
    """

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self._fingerprints: dict[tuple, Fingerprint] = {}
        self._moments: dict[tuple, Moments] = {}

    def fingerprint(
        self, candidate: Candidate, kind: str, images: int, layers: int | None = None
    ) -> Fingerprint:
        """On the first ``images`` of that kind, up to so many batch-norms."""
        images = min(images, len(self.assembly.balanced))
        key = (candidate, kind, layers)
        if (*key, images) not in self._fingerprints:
            found = self._first_of_all(candidate, kind, images, layers) if layers is not None else None
            if found is None:
                moments = self._moments.setdefault(key, {})
                found = self.assembly.fingerprint(candidate, kind, images, layers, moments)
            self._fingerprints[*key, images] = found
        return self._fingerprints[*key, images]

    def _first_of_all(self, candidate: Candidate, kind: str, images: int, layers: int) -> Fingerprint | None:
        """The same from what all batch-norms saw of these images, and perhaps more; None where none did."""
        moments: Moments = {}
        for name, pieces in islice(self._moments.get((candidate, kind, None), {}).items(), layers):
            seen = torch.cat(pieces, 1)
            if seen.shape[1] < images:
                return None
            moments[name] = [seen[:, :images]]
        return fingerprint_of(moments, self.assembly.norms(candidate.arch)) if moments else None

    def forms(self, arch: str, part: str, among: Container[str | None] | None = None) -> Iterator[str]:
        """The variants that differ from ``arch`` in one part, as far as there are such networks.

        Args:
            among: the forms that come into question; None for all.
        """
        for form in self.assembly.variants[part]:
            if among is not None and str(form) not in among:
                continue
            other = changed(arch, part, form)
            try:
                self.assembly.network(other, rounded=True)
            except InputError:
                continue
            yield other
