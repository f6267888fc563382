"""Low frequencies beside another implementation of them, and a union beside torchattacks.

    python benchmarks/peers/beyond_norms.py                                     writes beyond_norms.md
    python benchmarks/peers/beyond_norms.py --cifar FILE --ckpt RESNET20        with low frequencies as well

FILE is CIFAR-10's test set as .npz. Unions run on the shipped digits network and need torchattacks.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.fft import dctn, idctn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.errors.coverage import write
from benchmarks.peers.sparse import Counted
from robustbench_coded import attack
from robustbench_coded.data.registry import load_data
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.extras.published.input_transformations import BITS, compressed, rounded
from robustbench_coded.models.loading import load_checkpoint

PAGE = Path(__file__).with_suffix(".md")
IMAGES, STEPS = 64, 20
DIGITS = Path(__file__).parents[2] / "checkpoints" / "digits-pgd-at.safetensors"
RADII = {"linf": 0.25, "l2": 0.8}
UNION = "+".join(f"{norm}:{radius}" for norm, radius in RADII.items())
OURS = ("pgd-100", "apgd-ce-100", "apgd-mt-100", "aa-100")
SEEDS = 3  # of AutoAttack


def low_frequencies(x: np.ndarray, size: int) -> np.ndarray:
    """What is left of [n, C, H, W] without the higher frequencies."""
    coefficients = dctn(x, axes=(2, 3), norm="ortho")
    coefficients[:, :, size:] = 0
    coefficients[:, :, :, size:] = 0
    return idctn(coefficients, axes=(2, 3), norm="ortho")


def masked_pgd(network: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float) -> Tensor:
    """PGD as arXiv 1903.00073 has it: the gradient is masked, a step taken, masked again, and clipped.

    The perturbation itself is kept between steps, which our protocol does not do.
    """
    size = int(norm.partition("-low")[2])
    d = np.zeros(x.shape)
    for _ in range(STEPS):
        at = (x + torch.from_numpy(d).float()).clamp(0, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(network(at), y, reduction="sum"), at)
        slope = low_frequencies(gradient.double().numpy(), size)
        if norm.startswith("linf"):
            d = low_frequencies(d + eps / 4 * np.sign(slope), size)
            length = np.abs(d).max((1, 2, 3), keepdims=True)
        else:
            d = d + eps / 4 * slope / np.sqrt((slope**2).sum((1, 2, 3), keepdims=True))
            length = np.sqrt((d**2).sum((1, 2, 3), keepdims=True))
        d = d * np.minimum(1, eps / length)
    return (x + torch.from_numpy(d).float()).clamp(0, 1)


def right(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Which inputs are answered rightly, bool [n]."""
    with torch.no_grad():
        return network(x).argmax(1) == y


def beside_reference(ckpt: str, cifar: str) -> Iterator[str]:
    """Accuracy and mean loss under our PGD and under the reference, at as many gradients."""
    x, y = load_data(f"npz:{cifar}").batch(range(IMAGES))
    network = with_normalisation(load_checkpoint(ckpt), x, y)
    yield f"| norm | eps | PGD-{STEPS} here | masked PGD-{STEPS} | `apgd-ce-{STEPS}` here |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for norm in ("linf-low16", "linf-low8", "linf-low4", "l2-low8"):
        for eps in (2 / 255, 8 / 255) if norm.startswith("linf") else (0.22, 0.87):
            found = (
                attack(network, x, y, f"pgd-{STEPS}", eps, norm=norm, seed=0),
                masked_pgd(network, x, y, norm, eps),
                attack(network, x, y, f"apgd-ce-{STEPS}", eps, norm=norm, seed=0),
            )
            yield f"| {norm} | {eps:.4f} | {' | '.join(_cell(network, a, y) for a in found)} |"


def _cell(network: nn.Module, x: Tensor, y: Tensor) -> str:
    with torch.no_grad():
        loss = cross_entropy(network(x), y)
    return f"{100 * right(network, x, y).double().mean():.1f} ({loss:.2f})"


def digits(images: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The adversarially trained network of digits, with inputs and labels."""
    x, y = load_data("digits").batch(range(images))
    return with_normalisation(load_checkpoint(str(DIGITS)), x, y), x, y


def union_beside_torchattacks() -> Iterator[str]:
    """Accuracy of each member and of the union, ours by attacks on it, theirs by each member's result."""
    import torchattacks

    network, x, y = digits(100)
    yield "| | " + " | ".join(f"{norm} {radius}" for norm, radius in RADII.items()) + " | union | passes |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name in OURS:
        found = [attack(network, x, y, name, e, norm=norm, seed=0) for norm, e in RADII.items()]
        counted = Counted(network).eval()
        found.append(attack(counted, x, y, name, 1, norm=UNION, seed=0))
        yield _row(f"`{name}`", [right(network, each, y) for each in found], counted.passes)
    for seed in range(SEEDS):
        counted = Counted(network).eval()
        found = [
            torchattacks.AutoAttack(counted, norm.capitalize(), eps, n_classes=10, seed=seed)(x, y)
            for norm, eps in RADII.items()
        ]
        stand = [right(network, each, y) for each in found]
        yield _row(f"torchattacks' AutoAttack, seed {seed}", [*stand, stand[0] & stand[1]], counted.passes)


def behind_transformations() -> Iterator[str]:
    """Accuracy under PGD in linf, in its low frequencies and in the union, behind published defences."""
    network, x, y = digits(IMAGES)
    norms = {"linf": RADII["linf"], "linf-low4": RADII["linf"], UNION: 1}
    yield "| defence, attack | clean | " + " | ".join(norms) + " |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "published:jpeg": compressed,
        "published:bit-depth": partial(rounded, bits=BITS),
    }
    for defence, change in changes.items():
        defended = nn.Sequential(Change(change), network)
        for name in (f"pgd-{STEPS}", f"relaxed-pgd-{STEPS}"):
            found = [attack(defended, x, y, name, eps, norm=n, seed=0) for n, eps in norms.items()]
            yield _row(f"`{defence}`, `{name}`", [right(defended, each, y) for each in (x, *found)])


class Change(nn.Module):
    """A transformation of images as the first layer of a network."""

    def __init__(self, change: Callable[[Tensor], Tensor]):
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(x)


def _row(name: str, stand: list[Tensor], passes: int | None = None) -> str:
    shares = " | ".join(f"{100 * each.double().mean():.1f}" for each in stand)
    return f"| {name} | {shares} |" + (f" {passes / len(stand[0]):,.0f} |" if passes else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar")
    parser.add_argument("--ckpt")
    args = parser.parse_args()
    torch.set_num_threads(1)
    write("union", "\n".join(union_beside_torchattacks()), PAGE)
    write("transformations", "\n".join(behind_transformations()), PAGE)
    if args.cifar and args.ckpt:
        write("reference", "\n".join(beside_reference(args.ckpt, args.cifar)), PAGE)


if __name__ == "__main__":
    main()
