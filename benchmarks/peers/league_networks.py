"""What the league attacks: networks by their checkpoints, and random defences, some of known truth."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from robustbench_coded.data.registry import load_data
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.rci import RCI
from robustbench_coded.defences.sampling import SamplingModule
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel
from zoo import coupled
from zoo.known import Known
from zoo.registry import ZOO

ROOT = Path(__file__).parents[2]
SHARED, CIFAR10, EXAMPLES = ROOT / ".." / "shared", ROOT / "data", 100


@dataclass(frozen=True)
class Sources:
    """Folders of what the project does not ship, and how many examples are attacked."""

    shared: Path = SHARED
    cifar10: Path = CIFAR10
    examples: int = EXAMPLES


@dataclass(frozen=True)
class Subject:
    """What is attacked, on which examples.

    Attributes:
        network: pixels in [0, 1] -> logits.
        classes: of its logits.
        truth: percent that the best attack leaves, between two bounds; None if not known.
    """

    network: PixelModel | Defence
    x: Tensor
    y: Tensor
    classes: int = 10
    truth: tuple[float, float] | None = None


@dataclass(frozen=True)
class Network:
    """A checkpoint, and a radius that leaves some of its examples standing.

    Attributes:
        draws: under which an attack's points are asked again; 0 for a deterministic network.
        most: examples that are attacked, where the network is too slow for all; None for all.
        largest: of the budgets that are affordable on two cores, in images for an example.
    """

    name: str
    checkpoint: str
    data: str
    eps: float
    draws: int = 0
    most: int | None = None
    largest: int = 10_000

    def path(self, sources: Sources) -> Path:
        return (ROOT / self.checkpoint.format(shared=sources.shared)).resolve()

    def missing(self, sources: Sources) -> bool:
        return not self.path(sources).exists()

    def plain(self, sources: Sources) -> tuple[PixelModel, Tensor, Tensor]:
        """The checkpoint's network, with the first examples and their labels."""
        checkpoint = load_checkpoint(self.path(sources))
        stored = checkpoint.normalisation
        mean, std = (stored.mean, stored.std) if stored is not None else ((0.0,), (1.0,))
        network = PixelModel(checkpoint.network, mean, std, classes=10, arch=self.name).eval()
        folder = {"mnist": sources.shared / "data", "cifar10": sources.cifar10}.get(self.data)
        return network, *load_data(self.data, data_dir=folder).batch(range(sources.examples))

    def load(self, sources: Sources) -> Subject:
        return Subject(*self.plain(sources))


@dataclass(frozen=True)
class RandomNetwork(Network):
    """A checkpoint that draws in every answer, or one under RCI.

    Attributes:
        rci: N of the batch that all examples make; None for no RCI.
    """

    draws: int = 100
    rci: str | None = None

    def load(self, sources: Sources) -> Subject:
        network, x, y = self.plain(replace(sources, examples=self.most or sources.examples))
        if self.rci is not None:
            return Subject(RCI(network, len(x), self.rci), x, y)
        defence = SamplingModule(network, name=self.name)
        defence.settle(randomised=True, batch_dependent=False)
        return Subject(defence, x, y)


@dataclass(frozen=True)
class OfZoo:
    """A random defence of known robust accuracy."""

    name: str
    draws: int = 1000
    most: int | None = None
    largest: int = 1_000  # more change nothing

    @property
    def eps(self) -> float:
        return ZOO[self.name].eps

    def missing(self, sources: Sources) -> bool:
        return False

    def load(self, sources: Sources) -> Subject:
        return _subject(ZOO[self.name].load(sources.examples))


@dataclass(frozen=True)
class LinearRCI(OfZoo):
    """The zoo's linear model under RCI, where all examples make one batch."""

    def load(self, sources: Sources) -> Subject:
        return _subject(coupled.known_rci_linear(sources.examples, self.eps, k=sources.examples))


def _subject(known: Known) -> Subject:
    truth, defence = known.truth("batch/unknown"), known.defence
    with torch.no_grad():
        draw = defence.sample(torch.Generator().manual_seed(0), len(known.x))
        classes = defence.logits(known.x, draw).shape[1]
    return Subject(defence, known.x, known.y, classes, (100 * truth.low, 100 * truth.high))


Entry = Network | OfZoo

ENTRIES: tuple[Entry, ...] = (
    Network("digits-erm", "checkpoints/digits-erm.safetensors", "digits", 0.1),
    Network("digits-pgd-at", "checkpoints/digits-pgd-at.safetensors", "digits", 0.2),
    Network("mnist-pgd-madry", "{shared}/checkpoints/mnist-pgd-madry.pth", "mnist", 0.3),
    Network("mnist-fgsm", "{shared}/checkpoints/mnist-fgsm.pth", "mnist", 0.3),
    Network("kw_mnist", "{shared}/checkpoints/kw_mnist.pth", "mnist", 0.1),
    Network(
        "cifar10-pgd-at-resnet20",
        "checkpoints/cifar10-pgd-at-resnet20.safetensors",
        "cifar10",
        8 / 255,
        largest=1_000,
    ),
    OfZoo("noise-wide"),
    OfZoo("noise-narrow"),
    OfZoo("random-slope"),
    OfZoo("ensemble-decoys"),
    OfZoo("ensemble-opposed"),
    LinearRCI("rci-linear"),
    OfZoo("op-bernoulli"),
    OfZoo("op-gumbel"),
    OfZoo("op-gumbel-wide"),
    RandomNetwork(
        "digits-erm-rci", "checkpoints/digits-erm.safetensors", "digits", 0.1, largest=1_000, rci="1.5K"
    ),
    RandomNetwork(
        "lwta-wrn34-1",
        "{shared}/checkpoints/lwta-wrn34-1.pt",
        "cifar10",
        8 / 255,
        draws=20,
        most=32,
        largest=100,
    ),
)
