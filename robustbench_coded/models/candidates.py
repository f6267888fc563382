"""Candidates: ways to assemble one file's weights, as variants behind normalisations, with the
fingerprints of each.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from robustbench_coded.data.augment import images_of_kind
from robustbench_coded.errors import InputError
from robustbench_coded.models import registry
from robustbench_coded.models.build import construct, give_places
from robustbench_coded.models.fingerprint import (
    BatchNorm,
    Fingerprint,
    Moments,
    fingerprint_of,
    moments_seen,
    trained_batch_norms,
    watched,
)
from robustbench_coded.models.labelled_accuracy import STANDARD_ERRORS, Labelled
from robustbench_coded.models.loading import Checkpoint
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
    return torch.cat(found, 1).cpu().double()


# Images are made as in training so many at a time, so that more of them begin with the same ones.
PIECE = 16

MOST_IMAGES = 512  # whose batch-norms are looked at


def unusual_parts(arch: str) -> int:
    """How many parts of a variant are not as usual."""
    return len(split_variant(arch)[1])


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


# Scores of batch-norms: what is usual is not told from another one that is less than so many times better.
TIE = 1.25

# The temperatures at which right networks explain the labels best are 0.5 to 1.5 (and nearly 0 where all
# answers are right). Pixels up to 255 in place of 1, or an unknown layer taken for a known one: 20 to 1,000.
LARGEST_TEMPERATURE = 10.0


@dataclass(frozen=True)
class Evidence:
    """One candidate and what each witness says of it; None where that one was not asked.

    Attributes:
        kind: the kind of training images that fits its batch-norms best.
        rare: 1 where its normalisation is that of another data set, else 0.
    """

    candidate: Candidate
    kind: str | None = None
    fingerprint: Fingerprint | None = None
    labelled: Labelled | None = None
    rare: int = 0

    @property
    def score(self) -> float:
        """Of its batch-norms; 0 where it has none."""
        return 0.0 if self.fingerprint is None else self.fingerprint.score

    @property
    def images(self) -> int:
        """That its batch-norms were looked at on; 0 where it has none."""
        return 0 if self.fingerprint is None else self.fingerprint.images

    @property
    def parts(self) -> int:
        """How many parts of its architecture are not as usual."""
        return unusual_parts(self.candidate.arch)

    @property
    def unusual(self) -> int:
        """How much of it is not as usual: parts, and its normalisation."""
        return self.parts + self.rare

    @property
    def plausible_scale(self) -> bool:
        """Whether its logits are not far too large for its right answers."""
        return self.labelled is None or self.labelled.temperature <= LARGEST_TEMPERATURE

    def worse_than(self, other: "Evidence") -> bool:
        """Whether labelled images say so beyond chance.

        Right answers come before the cross-entropy, which another form may lower by changing how sure a
        network is, as of one that was trained adversarially.
        """
        if self.labelled is None or other.labelled is None:
            return False
        fewer_right = self.labelled.less_accurate_than(other.labelled)
        if abs(fewer_right) >= STANDARD_ERRORS:
            return fewer_right > 0
        return self.labelled.worse_than(other.labelled) >= STANDARD_ERRORS

    def same_as(self, other: "Evidence") -> bool:
        """Whether no witness tells the two apart."""
        if self.images != other.images:  # one of them was clearly worse on fewer
            return False
        scores = sorted((self.score, other.score))
        return scores[1] <= TIE * scores[0] and not (self.worse_than(other) or other.worse_than(self))


@dataclass
class Assembly:
    """Builds candidates of one checkpoint, and looks at their batch-norms.

    Attributes:
        checkpoint: as loaded; its weights are shared by all candidates.
        images: [n, C, H, W] in [0, 1].
        device: where candidates answer.
    """

    checkpoint: Checkpoint
    images: Tensor
    device: torch.device
    _networks: dict[str, nn.Module] = field(default_factory=dict)
    _models: dict[Candidate, PixelModel] = field(default_factory=dict)
    _norms: dict[str, dict[str, BatchNorm]] = field(default_factory=dict)
    _inputs: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    _moments: dict[tuple, Moments] = field(default_factory=dict)
    _fingerprints: dict[tuple, Fingerprint] = field(default_factory=dict)

    @cached_property
    def representative(self) -> Tensor:
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

    def answers(self, candidate: Candidate) -> Callable[[Tensor], Tensor]:
        """What ``model`` answers, without making one, which takes longer than a few images."""
        network, normalisation = self.network(candidate.arch), candidate.normalisation
        mean, std = (
            torch.tensor(part, device=self.device).view(1, -1, 1, 1)
            for part in (normalisation.mean, normalisation.std)
        )
        return lambda x: network((x - mean) / std)

    def network(self, arch: str) -> nn.Module:
        """The network of a variant with the checkpoint's weights, on the device.

        Raises:
            InputError: there is no such variant.
        """
        checkpoint = self.checkpoint
        if arch not in self._networks and arch == checkpoint.arch:
            self._networks[arch] = checkpoint.network.eval().requires_grad_(False).to(self.device)
        if arch not in self._networks and (form := split_variant(arch)[1].get(INPUT)):
            self._networks[arch] = OtherInput(self.network(unchanged(arch, INPUT)), form).eval()
        if arch not in self._networks:
            built = construct(arch, checkpoint.classes, checkpoint.channels, checkpoint.image_size)
            give_places(built, self._weights)
            built.load_state_dict(self._weights, assign=True)
            self._networks[arch] = built.eval().requires_grad_(False)
        return self._networks[arch]

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        """Parameters and buffers of the checkpoint, on the device; all variants share them."""
        trained = self.checkpoint.network
        network = trained.network if isinstance(trained, OtherInput) else trained
        return network.to(self.device).state_dict()

    def inputs(self, kind: str, start: int, end: int) -> Tensor:
        """Those images as in that kind of training, on the device; ``start`` and ``end`` as in a slice."""
        pieces = []
        for number in range(start // PIECE, -(-min(end, len(self.representative)) // PIECE)):
            first = number * PIECE
            if (kind, number) not in self._inputs:
                images = images_of_kind(kind, self.representative[first : first + PIECE], seed=number)
                self._inputs[kind, number] = images.to(self.device)
            pieces.append(self._inputs[kind, number][max(0, start - first) : end - first])
        return torch.cat(pieces)

    @property
    def samples(self) -> bool:
        """Whether the network draws in every answer."""
        return bool(getattr(self.checkpoint.network, "samples", False))

    def bfloat16(self) -> torch.autocast:
        """Inside it, networks multiply bfloat16 where the processor does; those that sample never."""
        rounds = multiplies_bfloat16(self.device) and not self.samples
        return torch.autocast(self.device.type, torch.bfloat16, enabled=rounds)

    def norms(self, arch: str) -> dict[str, BatchNorm]:
        """A variant's batch-norms that remember something."""
        if arch not in self._norms:
            self._norms[arch] = trained_batch_norms(self.network(arch))
        return self._norms[arch]

    def fingerprint(
        self, candidate: Candidate, kind: str, count: int, layers: int | None = None
    ) -> Fingerprint:
        """The candidate's batch-norms on the first ``count`` images of that kind; what was seen is kept.

        Args:
            candidate: has batch-norms that remember something.
            layers: up to so many batch-norms; None for all.
        """
        count = min(count, len(self.representative))
        key = (candidate, kind, layers)
        if (*key, count) not in self._fingerprints:
            moments, norms = self._moments.setdefault(key, {}), self.norms(candidate.arch)
            seen = sum(piece.shape[1] for piece in next(iter(moments.values()), []))
            if seen < count:
                # Rounding moves a score by less than a tenth of what is by chance.
                with self.bfloat16():
                    new = moments_seen(self.answers(candidate), norms, self.inputs(kind, seen, count), layers)
                for name, pieces in new.items():
                    moments.setdefault(name, []).extend(pieces)
            self._fingerprints[*key, count] = fingerprint_of(moments, norms)
        return self._fingerprints[*key, count]

    def forms(self, arch: str, part: str) -> list[str]:
        """The variants that differ from ``arch`` in one part, as far as there are such networks."""
        found = []
        for form in self.variants[part]:
            other = changed(arch, part, form)
            with suppress(InputError):
                self.network(other)
                found.append(other)
        return found


@torch.no_grad()
def multiplications(model: PixelModel, image: Tensor) -> int:
    """Multiplications of convolutions and linear layers for one image [1, C, H, W]."""
    counted = [0]

    def count(module: nn.Module, x: Tensor, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        # Each output is a product with one filter, or one row.
        counted[0] += output.numel() * weight[0].numel()

    with watched((one for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)), count):
        model(image)
    return counted[0]
