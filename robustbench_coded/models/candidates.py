"""Candidates: architectures and normalisations that one file's weights fit, what labelled images say of each,
and the question that is asked where nothing decides between them.

A network that was trained adversarially often answers more images rightly behind a wrong normalisation, and
is robust behind the right one alone. So labels order candidates for a person, and choose none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from robustbench_coded.models.architectures.sequential_names import (
    ACTIVATIONS,
    published_stacks,
    stack_names,
    with_activation,
)
from robustbench_coded.models.build import construct
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.models.normalisation import Normalisation
from robustbench_coded.models.pixel_model import PixelModel, multiplications
from robustbench_coded.models.refusal import shapes_in
from robustbench_coded.models.registry import find

ANSWERED_AT_ONCE = 32  # on a CPU wide networks answer so many a third faster than 128

# Fewest and most labelled images of a candidate, and the multiplications that all of them together may cost:
# a core makes about 20e9 of these a second.
LABELLED_IMAGES, LABELLED_MULTIPLICATIONS = (64, 2048), 30e9
LINES = 3  # of a question
NONE_OF_THESE = "  if none of these is your network, pass --arch file.py:build"

TIMM_SIZES = {("192", "12"), ("384", "12"), ("768", "12"), ("1024", "24")}  # width and depth
LIKELY = 4  # networks of the same weights that come into question
OTHERS = ("elu", "gelu", "tanh")  # activations that come into question where nothing says one


def published_definition(checkpoint: Checkpoint) -> str | None:
    """The published definition that a network is, in words; None where nobody knows.

    Plain stacks of layers are written by everybody: a definition in ``published_stacks.toml`` has to agree in
    the names and shapes of all weights, and the numbers of an ``nn.Sequential`` have to show where its
    activations stand: what lies between layers with names is in a forward pass that everybody edits. How many
    heads a transformer of this project has is a guess, of 64 channels each, which is right of timm's sizes.
    The other architectures are published definitions themselves.
    """
    arch = checkpoint.arch
    if arch.startswith("vit-"):
        _, _, width, depth, _ = arch.split("-")
        return "timm's vision transformer" if (width, depth) in TIMM_SIZES else None
    if not arch.startswith("sequential-") or re.fullmatch(r"sequential-\d+-f\d+-l", arch):
        return "names and shapes"  # a single matrix has nothing beside it, unless it drives spiking neurons
    numbered = all(name.split(".")[-2:-1] and name.split(".")[-2].isdecimal() for name in checkpoint.names)
    known = published_stacks().get(arch, {})
    if not numbered or "layers" in known or checkpoint.activation not in ("", "ReLU"):
        return None
    return known.get("definition")


def networks_of(checkpoint: Checkpoint) -> list[str]:
    """The architectures that have the checkpoint's weights, as ``--arch`` takes them, the likeliest first."""
    arch = checkpoint.arch
    if ":" in arch or (published_definition(checkpoint) and arch.startswith("sequential-")):
        return [arch]
    if not arch.startswith("sequential-"):
        beside = find(arch)[0].beside
        return [arch, f"{arch}{beside}"] if beside else [arch]
    names = stack_names(shapes_in(checkpoint.network.state_dict()), checkpoint.image_size)
    hint = checkpoint.activation.lower()
    likely = list(dict.fromkeys([arch, *names]))[:LIKELY]
    if hint in ACTIVATIONS:
        return [with_activation(name, hint) for name in likely]
    if hint or checkpoint.normalisation is None:  # it asks for the normalisation first
        return likely
    return list(dict.fromkeys([*likely, *(with_activation(arch, other) for other in OTHERS)]))


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
        rightly: [n] bool, which of the first n images it answers rightly.
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
    """Candidates of one checkpoint on the same images; each image once.

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
    _rightly: dict[Candidate, Tensor] = field(default_factory=dict)

    @cached_property
    def cost(self) -> int:
        """Multiplications for one image."""
        image = self.images[:1].contiguous().to(self.device)
        return multiplications(self.checkpoint.network.to(self.device), image)

    @property
    def samples(self) -> bool:
        """True if the network draws in every answer."""
        return bool(getattr(self.checkpoint.network, "samples", False))

    def model(self, candidate: Candidate) -> PixelModel:
        """See :func:`model_of`."""
        return model_of(self.checkpoint, candidate, self.device)

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
        limits = fewest, LABELLED_IMAGES[1]
        count = self.affordable(limits, LABELLED_MULTIPLICATIONS, len(candidates))
        for candidate in candidates:
            known = self._rightly.get(candidate, torch.empty(0, dtype=torch.bool))
            if len(known) < min(count, len(self.images)):
                torch.manual_seed(len(known))  # networks that sample draw alike for every candidate
                pieces, model = self.images[len(known) : count].split(ANSWERED_AT_ONCE), self.model(candidate)
                answers = [model(x.to(self.device)).nan_to_num(nan=0.0).argmax(1).cpu() for x in pieces]
                known = torch.cat([known, torch.cat(answers) == self.labels[len(known) : count]])
                self._rightly[candidate] = known
        return [Labelled(candidate, self._rightly[candidate][:count]) for candidate in candidates]


@dataclass(frozen=True)
class Question:
    """A question to the user: which candidate is right.

    Attributes:
        why: what is not known, a clause.
        choices: candidates, the likeliest first; at most LINES.
        labelled: the same on labelled images; empty where there are no labels.
        distances: of the candidates' batch-norms from what they remember; empty where none remembers.
        classes: number of classes.
    """

    why: str
    choices: tuple[Candidate, ...]
    labelled: tuple[Labelled, ...]
    distances: tuple[float, ...]
    classes: int

    @property
    def heading(self) -> str:
        """The question, in one line."""
        figures = ["right answers of labelled images"] if self.labelled else []
        figures += ["distance of its batch-norms from their statistics"] if self.distances else []
        shown = f" ({', '.join(figures)})" if figures else ""
        why = self.why
        if self.labelled and all(row.at_chance(self.classes) for row in self.labelled):
            why += "; even the best of these lines answers as by chance, so the images may not be its own"
        return (
            f"{why}. State the network as it was trained, as in one of these lines{shown}: an adversarially "
            "trained network may answer more rightly behind a wrong normalisation, so labels do not choose; "
            "`csrobust eval --guess` takes the first line"
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """The candidates, one a line, their figures behind the options to copy, and the last way out."""
        figures: list[list[str]] = [[] for _ in self.choices]
        for figure, row in zip(figures, self.labelled, strict=False):
            figure.append(f"{row.accuracy:.1%} of {len(row.rightly)}")
        for figure, distance in zip(figures, self.distances, strict=False):
            figure.append(f"{distance:.2g}")
        shown = (f"  ({', '.join(figure)})" if figure else "" for figure in figures)
        lines = (f"  {choice.flags}{behind}" for choice, behind in zip(self.choices, shown, strict=True))
        return (*lines, NONE_OF_THESE)
