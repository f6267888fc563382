"""Candidates: architectures and normalisations that one file's weights fit, on labelled images.

A network that was trained adversarially often answers more images rightly behind a wrong normalisation, and
is robust behind the right one alone. So labels order candidates for a person, and choose none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from robustbench_coded.models.build import construct
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.pixel_model import PixelModel, multiplications
from robustbench_coded.models.registry import find

ANSWERED_AT_ONCE = 32  # on a CPU wide networks answer so many a third faster than 128

# Fewest and most labelled images of a candidate, and the multiplications that all of them together may cost:
# a core makes about 20e9 of these a second.
LABELLED_IMAGES, LABELLED_MULTIPLICATIONS = (64, 2048), 30e9

TIMM_SIZES = {("192", "12"), ("384", "12"), ("768", "12"), ("1024", "24")}  # width and depth


def unknown_parts(checkpoint: Checkpoint) -> list[str]:
    """The parts that the published definition with its weights leaves open, in words.

    How many heads a transformer of this project has is a guess, of 64 channels each, which is right of timm's
    sizes. Layers that an ``nn.Sequential`` numbers may be written by anybody, and the pickle that holds one
    names its activation.
    """
    family, *numbers = checkpoint.arch.split("-")
    if family == "vit" and (numbers[1], numbers[2]) not in TIMM_SIZES:
        return ["heads"]
    return ["activations"] if family == "wong" and checkpoint.activation not in ("", "ReLU") else []


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
        network = construct(candidate.arch, checkpoint.classes, checkpoint.channels, checkpoint.image_size)
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

    def model(self, candidate: Candidate) -> PixelModel:
        """See :func:`model_of`."""
        return model_of(self.checkpoint, candidate, self.device)

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
            model = self.model(candidate)
            pieces = self.images[:most].split(ANSWERED_AT_ONCE)
            answers = [model(x.to(self.device)).nan_to_num(nan=0.0).argmax(1).cpu() for x in pieces]
            rows.append(Labelled(candidate, torch.cat(answers) == labels))
        return rows
