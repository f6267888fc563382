"""Attacks in l0 beside those of torchattacks, foolbox, ART and adversarial-library, at equal passes.

    python benchmarks/peers/sparse.py [--data-dir DIR]

Writes benchmarks/peers/sparse.md. An image that is forwarded or differentiated once is one pass. foolbox,
ART and adv-lib are no dependencies: install them in an environment of their own, in which this runs.
"""

import argparse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bench.table import pipes
from benchmarks.peers.league_networks import CIFAR10, Network, Sources
from robustbench_coded import attack
from robustbench_coded.runs.atomic import write_text

OUT = Path(__file__).with_suffix(".md")
# Network, examples, pixels, passes an image.
SETTINGS = (
    (Network("digits-pgd-at", "checkpoints/digits-pgd-at.safetensors", "digits", 0.0), 48, (1, 2, 4), 1000),
    (
        Network("cifar10-erm-resnet20", "checkpoints/cifar10-erm-resnet20.safetensors", "cifar10", 0.0),
        32,
        (1, 3, 10),
        300,
    ),
)
PACKAGES = ("torchattacks", "foolbox", "adversarial-robustness-toolbox", "adv-lib")


class Spent(Exception):
    """The passes of one image are used up."""


class Counted(nn.Module):
    """A network that counts its passes, and remembers what it was asked about one image.

    Attributes:
        passes: images forwarded and differentiated so far.
        nearest: the wrong answer to ``begin``'s image with the fewest pixels changed, [1, C, H, W].
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.passes, self.limit = network, 0, 0
        self.clean: Tensor | None = None

    def begin(self, x: Tensor, y: Tensor, passes: int) -> None:
        self.clean = self.nearest = x
        self.label, self.fewest, self.limit = y, x[0].numel() + 1, self.passes + passes

    def forward(self, x: Tensor) -> Tensor:
        if self.clean is not None and self.passes >= self.limit:
            raise Spent
        self.passes += len(x)
        logits = self.network(x)
        if logits.requires_grad:
            logits.register_hook(lambda grad: self._differentiated(len(x)))
        if self.clean is not None:
            self._remember(x.detach(), logits.detach())
        return logits

    def _differentiated(self, images: int) -> None:
        self.passes += images

    def _remember(self, x: Tensor, logits: Tensor) -> None:
        assert self.clean is not None
        count = pixels(x, self.clean)
        count[(logits.argmax(1) == self.label) | (x < 0).flatten(1).any(1) | (x > 1).flatten(1).any(1)] = (
            self.fewest
        )
        if int(count.min()) < self.fewest:
            self.fewest, at = int(count.min()), int(count.argmin())
            self.nearest = x[at : at + 1]


def pixels(x: Tensor, clean: Tensor) -> Tensor:
    """In how many pixels each image was changed, [B]."""
    return (x != clean).any(1).flatten(1).sum(1)


Run = Callable[[Counted, Tensor, Tensor, int, int], Tensor]  # network, x, y, pixels, passes -> perturbed


@dataclass(frozen=True)
class Entry:
    """One attack.

    Attributes:
        counts: what it counts: pixels, or values of single channels.
        each: whether it asks for a number of pixels, and runs for each.
        run: the attack.
        most: pixels of an image above which it is too slow.
    """

    library: str
    name: str
    counts: str
    each: bool
    run: Run
    most: int = 10_000


def ours(name: str, passes_a_step: int) -> Run:
    def run(network: Counted, x: Tensor, y: Tensor, k: int, passes: int) -> Tensor:
        return attack(network, x, y, f"{name}-{passes // passes_a_step}", k, norm="l0", seed=0)

    return run


def several(*runs: Run) -> Run:
    """One after the other on what is left, each with its part of the passes."""

    def run(network: Counted, x: Tensor, y: Tensor, k: int, passes: int) -> Tensor:
        found = x.clone()
        for one in runs:
            left = network.network(found).argmax(1) == y
            if bool(left.any()):
                found[left] = one(network, x[left], y[left], k, passes // len(runs))
        return found

    return run


def one_by_one(run_one: Callable[[Counted, Tensor, Tensor, int, int], object]) -> Run:
    """Each image by itself: what counts is the best of all that was asked, until the passes are used up."""

    def run(network: Counted, x: Tensor, y: Tensor, k: int, passes: int) -> Tensor:
        found = []
        for image, label in zip(x.split(1), y.split(1), strict=True):
            network.begin(image, label, passes)
            with suppress(Spent):
                run_one(network, image, label, k, passes)
            found.append(network.nearest)
        network.clean = None
        return torch.cat(found)

    return run


def of_torchattacks(name: str, **options: Callable[[int, int], object]) -> Run:
    def run(network: Counted, x: Tensor, y: Tensor, k: int, passes: int) -> object:
        import torchattacks

        given = {option: value(k, passes) for option, value in options.items()}
        return getattr(torchattacks, name)(network, **given)(x, y)

    return one_by_one(run)


def of_adv_lib(name: str, **options: Callable[[int], object]) -> Run:
    def run(network: Counted, x: Tensor, y: Tensor, k: int, passes: int) -> Tensor:
        from adv_lib import attacks

        given = {option: value(passes) for option, value in options.items()}
        found: Tensor = getattr(attacks, name)(network, x, y, **given)
        return found.detach()

    return run


def of_foolbox(name: str, **options: Callable[[int], object]) -> Run:
    def run(network: Counted, x: Tensor, y: Tensor, k: int, passes: int) -> Tensor:
        import foolbox

        model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
        given = {option: value(passes) for option, value in options.items()}
        found: Any = getattr(foolbox.attacks, name)(**given)(model, x, y, epsilons=None)[1]
        return found.detach()

    return run


def of_art(name: str, **options: Callable[[int, int, Tensor], object]) -> Run:
    def run(network: Counted, x: Tensor, y: Tensor, k: int, passes: int) -> object:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        model = PyTorchClassifier(
            network, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0.0, 1.0), device_type="cpu"
        )
        given = {option: value(k, passes, x) for option, value in options.items()}
        # As targets the labels would be what JSMA leads to: it draws its own.
        labels = None if name == "SaliencyMapMethod" else y.numpy()
        return getattr(evasion, name)(model, verbose=False, **given).generate(x.numpy(), labels)

    return one_by_one(run)


ENTRIES = (
    Entry("csrobust", "spgd-u", "pixels", True, ours("spgd-u", 2)),
    Entry("csrobust", "spgd-p", "pixels", True, ours("spgd-p", 2)),
    Entry("csrobust", "sigma-zero", "pixels", False, ours("sigma-zero", 2)),
    Entry("csrobust", "fmn", "pixels", False, ours("fmn", 2)),
    Entry("csrobust", "sparse-rs", "pixels", True, ours("sparse-rs", 1)),
    Entry("csrobust", "random", "pixels", True, ours("random", 1)),
    Entry(
        "csrobust",
        "sparse-rs, then spgd-u",
        "pixels",
        True,
        several(ours("sparse-rs", 1), ours("spgd-u", 2)),
    ),
    Entry("adv-lib", "sigma_zero", "values", False, of_adv_lib("sigma_zero", num_steps=lambda n: n // 2)),
    Entry(
        "adv-lib",
        "vfga",
        "values",
        False,
        # Two passes of the gradient and twenty samples a step.
        of_adv_lib("vfga", targeted=lambda n: False, max_iter=lambda n: n // 22, n_samples=lambda n: 10),
    ),
    Entry("foolbox", "L0FMNAttack", "values", False, of_foolbox("L0FMNAttack", steps=lambda n: n // 2)),
    Entry("torchattacks", "SparseFool", "values", False, of_torchattacks("SparseFool", steps=lambda k, n: n)),
    Entry(
        "torchattacks",
        "JSMA",
        "values",
        False,
        of_torchattacks("JSMA", gamma=lambda k, n: 0.3),
        most=100,  # it compares all pairs of values
    ),
    Entry(
        "torchattacks",
        "OnePixel",
        "pixels",
        True,
        of_torchattacks(
            "OnePixel",
            pixels=lambda k, n: k,
            steps=lambda k, n: n,
            popsize=lambda k, n: 100,
            inf_batch=lambda k, n: 512,
        ),
    ),
    Entry(
        "torchattacks",
        "Pixle",
        "pixels",
        True,
        of_torchattacks(
            "Pixle",
            x_dimensions=lambda k, n: (1, 1),
            y_dimensions=lambda k, n: (1, 1),
            restarts=lambda k, n: k,
            max_iterations=lambda k, n: n // k,
        ),
    ),
    Entry(
        "ART",
        "PixelAttack",
        "pixels",
        True,
        of_art("PixelAttack", th=lambda k, n, x: k, max_iter=lambda k, n, x: n // 400),
    ),
    Entry(
        "ART",
        "SaliencyMapMethod",
        "values",
        False,
        of_art("SaliencyMapMethod", theta=lambda k, n, x: 1.0, gamma=lambda k, n, x: 0.3),
    ),
)

ABOUT = """# Attacks in l0 beside those of other libraries

Accuracy left, in percent, on the first test images, where at most so many pixels (px) may change
to anything in [0, 1]; all channels of a pixel count as one, whatever the attack itself counts. A pass is one
image forwarded or differentiated once; each attack has as many, and uses fewer where it ends by itself or
stops at wrong answers. Attacks that search for the fewest changes run once, and are judged at every number of
pixels. Those of torchattacks and ART run image by image, and the best of all that they ask about counts.
{versions}.

In l0 adv-lib has sigma_zero, fga and vfga; foolbox L0FMNAttack and L0BrendelBethgeAttack; torchattacks
SparseFool, JSMA, OnePixel and Pixle; ART PixelAttack, SaliencyMapMethod (JSMA), CarliniL0Method and
BrendelBethgeAttack. Not run: fga, which vfga contains; those of Brendel and Bethge, which need numba; and
CarliniL0Method, which optimises from the start again for every value that it takes back. JSMA leads to one
class alone. Networks that their authors trained in l0 could not be had, so their figures are not compared.

"""


def measured(
    entry: Entry, network: nn.Module, x: Tensor, y: Tensor, counts: tuple[int, ...], passes: int
) -> list[str]:
    counted = Counted(network).eval()
    shown, spent, found = [], [], x
    for number, k in enumerate(counts):
        if entry.each or number == 0:
            torch.manual_seed(0)
            before = counted.passes
            found = entry.run(counted, x, y, k if entry.each else x[0, 0].numel(), passes)
            spent.append((counted.passes - before) / len(x))
        with torch.no_grad():
            wrong = (network(found).argmax(1) != y) & (pixels(found, x) <= k)
        wrong &= (found >= 0).flatten(1).all(1) & (found <= 1).flatten(1).all(1)
        shown.append(f"{100 * float((~wrong).float().mean()):.1f}")
    return [*shown, " / ".join(f"{each:.0f}" for each in spent)]


def version_of(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=CIFAR10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = ABOUT.format(versions=", ".join(map(version_of, PACKAGES)))
    for setting, examples, counts, passes in SETTINGS:
        network, x, y = setting.plain(Sources(cifar10=given.data_dir, examples=examples))
        with torch.no_grad():
            clean = float((network(x).argmax(1) == y).float().mean())
        heads = ("library", "attack", "counts", *(f"{k} px" for k in counts), "passes an image")
        table = [heads]
        for entry in ENTRIES:
            if x[0, 0].numel() > entry.most:
                continue
            try:
                cells = measured(entry, network, x, y, counts, passes)
            except ImportError as error:
                cells = [*("" for _ in counts), f"not run: {error}"]
            table.append((entry.library, entry.name, entry.counts, *cells))
            print(table[-1], flush=True)
        title = f"## {setting.name}: {examples} images, {passes} passes, clean {100 * clean:.1f}"
        text += f"{title}\n\n{pipes(table)}\n\n"
        write_text(OUT, text.rstrip() + "\n")


if __name__ == "__main__":
    main()
