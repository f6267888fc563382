"""Networks of known truth for recognition.py: quick trainings, each with other parts without weights."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_coded.data.augment import shift, shift_and_flip
from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.data.registry import load_data
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN, Normalisation
from robustbench_coded.models.pixel_model import OtherInput, PixelModel
from robustbench_coded.models.registry import INPUT, changed, find, split_variant
from robustbench_coded.paper.training.fresh import build

BATCH = 128
CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
SHARED = Path(__file__).parents[3] / "shared"

DIGITS = (
    "relu", "silu", "gelu", "leaky-relu-0.1", "leaky-relu", "elu", "softplus", "tanh", "mish", "hardswish",
    "sigmoid", "leaky-relu-0.2", "selu", "square",
    "relu,input=per-image", "silu,input=per-image", "gelu,input=per-image", "mish,input=per-image",
)  # fmt: skip
CIFAR_QUICK = (
    ("resnet20[activation=silu,subsampling=mean,new_channels=behind]", "cifar10-2023"),
    ("wrn-10-1[activation=silu,shortcut=raw]", "none"),
    ("wrn-10-1[input=per-image]", "none"),
    ("resnet20[activation=leaky-relu-0.1,new_channels=behind]", "imagenet"),
)
# Without batch-norms, on MNIST and on digits: the stack, its parts that are not as usual, the normalisation.
LENET = "sequential-28-c6k5-a-m-c16k5-a-m-f256-l64-a-l"
PADDED = "sequential-28-c8k5-a-m-c16k5-a-m-f784-l64-a-l"
STRIDED = "sequential-28-c8k4-a-c16k4-a-f784-l50-a-l"
FLAT = "sequential-28-f784-l100-a-l"
SMALL = "sequential-8-c16k3-a-c32k3-a-f512-l64-a-l"
ALONE_MNIST = (
    (LENET, "", "mnist"), (LENET, "pooling=mean", "none"), (LENET, "activation=tanh,pooling=mean", "half"),
    (LENET, "activation=elu", "bytes"), (PADDED, "", "none"), (PADDED, "pooling=mean", "mnist"),
    (STRIDED, "activation=silu", "none"), (STRIDED, "", "half"), (STRIDED, "activation=gelu", "mnist"),
    (FLAT, "", "mnist"), (FLAT, "activation=sigmoid", "none"), (STRIDED, "activation=softplus", "bytes"),
)  # fmt: skip
ALONE_DIGITS = (
    (SMALL, "", "none"), (SMALL, "activation=tanh", "half"), (SMALL, "activation=silu", "mnist"),
    (SMALL, "activation=elu", "none"), (SMALL, "activation=leaky-relu-0.2", "half"),
)  # fmt: skip
TRAINED_ON = 8000  # of MNIST's 10,000 test images, the only ones in ../shared; the others are for recognition


def mnist_images() -> tuple[Tensor, Tensor]:
    """The images [10000, 1, 28, 28] and labels of ../shared, of MNIST's test set."""
    data = load_data("mnist", data_dir=SHARED / "data")
    x, y = data.batch(np.arange(len(data)))
    return x, y


def digits_images(split: str, size: int = 8) -> tuple[Tensor, Tensor]:
    """All images [n, 1, size, size] and labels of scikit-learn's digits."""
    data = load_digits(split)
    x, y = data.batch(np.arange(len(data)))
    return (x if size == 8 else F.interpolate(x, size=(size, size), mode="bilinear")).clamp(0, 1), y


def cifar10_images(file: str, split: str, count: int) -> tuple[Tensor, Tensor]:
    """The first images [count, 3, 32, 32] and labels of a file of ../shared."""
    spec = importlib.util.spec_from_file_location("unpack", SHARED / "data" / "unpack.py")
    assert spec is not None and spec.loader is not None
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    tiles = unpack.tiles(SHARED / "data" / "cifar10" / f"{file}.webp")[:count]
    labels = np.load(SHARED / "data" / "cifar10" / "labels.npz")[split][:count].astype(np.int64)
    return torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(labels)


def train(
    path: Path, arch: str, normalisation: str, x: Tensor, y: Tensor, *, epochs: int, rate: float, seed: int,
    eps: float = 0.0,
) -> None:  # fmt: skip
    """Trains a network by SGD with momentum and a one-cycle schedule; writes its bare state dict.

    With ``eps``, on the images that PGD with 3 steps makes within this radius (linf), which grows until half
    of the training is over.
    """
    if path.exists():
        return
    generator = torch.Generator().manual_seed(seed)
    network = build(arch, 10, x.shape[1], x.shape[2], generator=generator)
    known = KNOWN[x.shape[1]][normalisation]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (known.mean, known.std))
    form = split_variant(arch)[1].get(INPUT)
    model = network if form is None else OtherInput(network, form).train()
    augmented = shift_and_flip if x.shape[1] == 3 else shift
    steps = epochs * (len(x) // BATCH)
    optimiser = torch.optim.SGD(network.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for epoch in range(epochs):
        size = eps * min(1.0, 2 * epoch / epochs)
        order = torch.randperm(len(x), generator=generator)
        for rows in order.split(BATCH)[: len(x) // BATCH]:
            pixels = augmented(x[rows].clone(), generator)
            if size:
                answers = lambda adv: model((adv - mean) / std)  # noqa: E731
                pixels = _perturbed(answers, pixels, y[rows], size, generator)
            loss = F.cross_entropy(model((pixels - mean) / std), y[rows])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(network.state_dict(), path)


def _perturbed(
    answers: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, eps: float, generator: torch.Generator
) -> Tensor:
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    adv = low + (high - low) * torch.rand(x.shape, generator=generator)
    for _ in range(3):
        adv.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(answers(adv), y), adv)
        adv = (adv.detach() + eps / 2 * gradient.sign()).clamp(low, high)
    return adv


@dataclass(frozen=True)
class Network:
    """A file of weights whose truth is known.

    Attributes:
        arch: the true variant.
        normalisation: the true one.
        arch_given: what has to be given for the file to be read; None where it is recognised.
        alone: whether it has no batch-norms.
        images, labels: [n, C, H, W] in [0, 1] and [n], for recognition.
    """

    name: str
    path: Path
    arch: str
    normalisation: Normalisation
    images: Tensor
    labels: Tensor
    arch_given: str | None = None
    alone: bool = False

    def truth(self) -> PixelModel:
        """The network as it was trained."""
        checkpoint = load_checkpoint(self.path, arch=self.arch)
        mean, std = self.normalisation.mean, self.normalisation.std
        return PixelModel(checkpoint.network, mean, std, classes=checkpoint.classes, arch=self.arch)


def networks(folder: Path, drawn: int) -> Iterator[Network]:
    """Quick trainings, the shipped checkpoints and those of ../shared, as far as they are there."""
    x, y = digits_images("train")
    test = digits_images("test")
    for seed, form in enumerate(DIGITS, 100 * drawn):
        arch = f"digits-cnn[activation={form}]"
        name = "none" if "per-image" in form else ("none", "mnist", "half")[seed % 3]
        path = folder / f"{arch}-{name}.safetensors"
        train(path, arch, name, x, y, epochs=15, rate=0.1, seed=seed)
        yield Network(f"{arch} on {name}", path, arch, KNOWN[1][name], *test)
    for path in sorted(CHECKPOINTS.glob("digits-*.safetensors")):
        yield _stored(path, *test)
    if not SHARED.is_dir():
        return
    test = cifar10_images("test-0", "test", 2048)
    for path in sorted((SHARED / "checkpoints").glob("resnet*")):
        yield Network(path.name, path, path.name.split("-")[0], KNOWN[3]["imagenet"], *test)
    for path in sorted(CHECKPOINTS.glob("cifar10-*.safetensors")):
        yield _stored(path, *test)
    x, y = cifar10_images("train-0", "train", 10_000)
    for seed, (arch, name) in enumerate(CIFAR_QUICK, 100 * drawn):
        path = folder / f"{arch}-{name}.safetensors"
        train(path, arch, name, x, y, epochs=3, rate=0.1, seed=seed)
        yield Network(f"{arch} on {name}", path, arch, KNOWN[3][name], *test)


def networks_alone(folder: Path, drawn: int) -> Iterator[Network]:
    """Networks without batch-norms: quick trainings and the three of ../shared."""
    x, y = digits_images("train")
    test = digits_images("test")
    for seed, given in enumerate(ALONE_DIGITS, 100 * drawn):
        yield _trained_alone(folder, *given, x, y, test, epochs=30, seed=seed)
    if not SHARED.is_dir():
        return
    x, y = mnist_images()
    test = x[TRAINED_ON:], y[TRAINED_ON:]
    for seed, given in enumerate(ALONE_MNIST, 100 * drawn):
        yield _trained_alone(folder, *given, x[:TRAINED_ON], y[:TRAINED_ON], test, epochs=4, seed=seed)
    for name in ("kw_mnist.pth", "mnist-pgd-madry.pth", "mnist-fgsm.pth"):
        path = SHARED / "checkpoints" / name
        yield Network(name, path, load_checkpoint(path).arch, KNOWN[1]["none"], x, y, alone=True)


def _trained_alone(
    folder: Path, stack: str, parts: str, normalisation: str, x: Tensor, y: Tensor,
    test: tuple[Tensor, Tensor], *, epochs: int, seed: int,
) -> Network:  # fmt: skip
    arch = f"{stack}[{parts}]" if parts else stack
    path = folder / f"{arch}-{normalisation}.safetensors"
    rate = 0.01 if normalisation == "bytes" else 0.1 if "activation=s" in arch or x.shape[2] == 8 else 0.05
    train(path, arch, normalisation, x, y, epochs=epochs, rate=rate, seed=seed)
    known = KNOWN[1][normalisation]
    return Network(f"{arch} on {normalisation}", path, arch, known, *test, alone=True)


def _stored(path: Path, images: Tensor, labels: Tensor) -> Network:
    checkpoint = load_checkpoint(path)
    assert checkpoint.normalisation is not None
    return Network(path.stem, path, checkpoint.arch, checkpoint.normalisation, images, labels)


class WrongForm(NamedTuple):
    """How it is given, ``--arch``, ``--normalize``, and the part that is wrong."""

    given: str
    arch: str
    normalize: str
    part: str


def wrong_forms(network: Network) -> list[WrongForm]:
    """Every assembly that is wrong in one part.

    Forms that answer nearly as the truth does, at most 1 image of 50 otherwise, are left out.
    """
    images = network.images[:100]
    with torch.no_grad():
        true = network.truth()(images).argmax(1)
    usual = str(network.normalisation)
    forms = [
        WrongForm(f"--normalize {name}", network.arch, name, "normalisation")
        for name, known in KNOWN[images.shape[1]].items()
        if known != network.normalisation
    ]
    _, parts = split_variant(network.arch)
    for part, others in find(network.arch)[0].variants.items():
        # A name without the part would leave it open, so the usual activation is named, too.
        for other in (*others, *(["relu"] if part == "activation" else [])):
            if parts.get(part) != other:
                arch = changed(network.arch, part, other)
                forms.append(WrongForm(f"--arch {arch}", arch, usual, part))
    found = []
    for form in forms:
        checkpoint = load_checkpoint(network.path, arch=form.arch, normalize=form.normalize)
        known = checkpoint.normalisation
        assert known is not None  # it is given by name
        model = PixelModel(
            checkpoint.network, known.mean, known.std, classes=checkpoint.classes, arch=form.arch
        )
        with torch.no_grad():
            alike = (model(images).argmax(1) == true).double().mean()
        if alike < 0.98:
            found.append(form)
    return found
