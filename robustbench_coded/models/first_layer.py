"""Normalisations that nobody uses by name, from what the first batch-norm remembers.

Before the first batch-norm there is usually one convolution. What it sees of an image (pixel - mean) / std is
then a sum over the channels: the response to the channel alone, divided by its deviation, less the response
to a constant. Both need to be computed only once, so hundreds of normalisations cost no more than one.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from robustbench_coded.models.candidates import Assembly
from robustbench_coded.models.fingerprint import FEW, divergences, trained_batch_norms
from robustbench_coded.models.normalisation import KNOWN, Normalisation, named

FEW_IMAGES, IMAGES = 32, 256  # of every kind, and of those that fit best
PIECE = 32
KINDS_FITTED = 3
CLEARLY = 4.0  # so many times better, fitted numbers are taken instead of known ones

# Means and deviations that published code combines: those of the known normalisations, of Tiny ImageNet, one
# number for all channels, a scale alone, means that are subtracted from pixels up to 1 or 255.
MEANS = ((0.0,), (0.5,), (0.4802, 0.4481, 0.3975))
DEVIATIONS = ((1.0,), (0.5,), (0.25,), (0.2,), (1 / 255,), (0.2302, 0.2265, 0.2262))

# The responses to the channels explain what the batch-norm sees to this share, or it is no sum of them.
LINEAR = 1e-3

STEPS = 60  # of the search for numbers that are in no list


@dataclass(frozen=True)
class FirstLayer:
    """What the first batch-norm sees of images, as a function of their normalisation.

    Attributes:
        first: [outputs, 2 C] mean responses: to each channel, then to ones in it.
        second: [outputs, 2 C, 2 C] mean products of them.
        norm: the batch-norm.
    """

    first: Tensor
    second: Tensor
    norm: torch.nn.modules.batchnorm._BatchNorm

    def divergence(self, mean: Tensor, std: Tensor) -> Tensor:
        """[t] of normalisations ``mean`` and ``std`` [t, C]: how far it is from what is remembered."""
        weights = torch.cat([1 / std, -mean / std], 1)
        first = weights @ self.first.T
        second = torch.einsum("tj,ojk,tk->to", weights, self.second, weights)
        return divergences(self.norm, torch.stack([first, second], 1))

    def among(self, choices: Sequence[Normalisation]) -> tuple[Normalisation, float]:
        """The best of them, and its divergence."""
        mean, std = (
            torch.tensor([getattr(one, part) for one in choices]).double() for part in ("mean", "std")
        )
        found = self.divergence(mean, std)
        best = int(found.argmin())
        return choices[best], float(found[best])

    def fitted(self, start: Normalisation) -> tuple[Normalisation, float]:
        """The best of all, near ``start``; numbers to three digits."""
        mean = torch.tensor(start.mean).double().requires_grad_()
        log_std = torch.tensor(start.std).double().log().requires_grad_()
        search = torch.optim.LBFGS([mean, log_std], max_iter=STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            search.zero_grad()
            value = self.divergence(mean[None], log_std.exp()[None]).sum()
            value.backward()
            return value

        with torch.enable_grad():
            search.step(loss)
        numbers = [
            [float(f"{one:.3g}") for one in part.tolist()] for part in (mean.detach(), log_std.detach().exp())
        ]
        return self.among([named(tuple(numbers[0]), tuple(numbers[1]))])


def first_layer(assembly: Assembly, arch: str, images: Tensor) -> FirstLayer | None:
    """What the first batch-norm of a variant sees of images [n, C, H, W]; None where it is no such sum."""
    network = assembly.network(arch)
    name, norm = next(iter(trained_batch_norms(network).items()))
    first, second = [], []
    for piece in images.split(PIECE):
        basis = _responses(network, name, piece)
        if basis is None:
            return None
        by_output = basis.permute(2, 1, 0, 3)  # [outputs, n, 2 C, pixels]
        first.append(by_output.mean(3).sum(1).double())
        second.append((by_output @ by_output.mT / by_output.shape[3]).sum(1).double())
    count = len(images)
    return FirstLayer(sum(first).cpu() / count, sum(second).cpu() / count, norm)  # type: ignore[union-attr]


@torch.no_grad()
def _responses(network: torch.nn.Module, name: str, x: Tensor) -> Tensor | None:
    """[2 C, n, outputs, pixels] what a batch-norm sees of each channel of x alone, then of ones in it."""
    seen: list[Tensor] = []

    def see(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].float().flatten(2))
        raise StopIteration  # what follows is of no use

    handle = network.get_submodule(name).register_forward_pre_hook(see)
    one = torch.ones_like(x[:1])
    alone = torch.eye(x.shape[1], device=x.device)[:, None, :, None, None]
    try:
        for part in (x, 0 * one, *(x * alone), *(one * alone)):
            with suppress(StopIteration):
                network(part)
    finally:
        handle.remove()
    whole, nothing, *parts = seen
    least = LINEAR * float(whole.abs().max())
    together = sum(parts[: x.shape[1]], torch.zeros_like(whole))
    if float(nothing.abs().max()) > least or float((together - whole).abs().max()) > least:
        return None
    return torch.stack([part.expand_as(whole) for part in parts])


def combinations(channels: int) -> list[Normalisation]:
    """Every known mean with every known deviation."""
    known = KNOWN[channels].values()
    means, deviations = ({*(getattr(one, part) for one in known)} for part in ("mean", "std"))
    means |= {_of(channels, mean) for mean in MEANS if len(mean) in (1, channels)}
    deviations |= {_of(channels, std) for std in DEVIATIONS if len(std) in (1, channels)}
    found = [named(mean, std) for mean, std in product(sorted(means), sorted(deviations))]
    # Meant for channels in the other order.
    return list(dict.fromkeys([*found, *(named(one.mean[::-1], one.std[::-1]) for one in found)]))


def _of(channels: int, numbers: tuple[float, ...]) -> tuple[float, ...]:
    return numbers if len(numbers) == channels else numbers * channels


def other_normalisations(
    assembly: Assembly, arch: str, kinds: Sequence[str], better_than: float
) -> list[tuple[Normalisation, str]]:
    """Normalisations with kinds of images whose divergence is less than ``better_than``, the best few.

    A combination of known numbers comes before fitted numbers that are not clearly better.
    """
    choices = combinations(assembly.checkpoint.channels)
    seen = []
    for kind in kinds:
        layer = first_layer(assembly, arch, assembly.inputs(kind, 0, FEW_IMAGES))
        if layer is None:
            return []
        seen.append((*layer.among(choices)[::-1], kind))
    found = []
    for _, combination, kind in sorted(seen, key=lambda one: one[0])[:KINDS_FITTED]:
        layer = first_layer(assembly, arch, assembly.inputs(kind, 0, IMAGES))
        assert layer is not None
        best, divergence = layer.among(choices)
        fitted, less = layer.fitted(combination)
        if divergence > CLEARLY * less + FEW / IMAGES:
            best, divergence = fitted, less
        if divergence < better_than:
            found.append((best, kind))
    return found
