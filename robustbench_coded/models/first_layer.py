"""Normalisations by what the first batch-norm remembers: all at once, unnamed ones included.

Before the first batch-norm there is usually one convolution. What it sees of an image (pixel - mean) / std is
then a sum over the channels: the response to the channel alone, divided by its deviation, less the response
to a constant. Both need to be computed only once, so hundreds of normalisations cost no more than one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from robustbench_coded.models.candidates import Assembly, FirstConvolution
from robustbench_coded.models.fingerprint import (
    Enough,
    Fingerprint,
    divergences,
    fingerprint_of_means,
    over_groups,
    trained_batch_norms,
    watched,
)
from robustbench_coded.models.normalisation import KNOWN, Normalisation, named

FEW_IMAGES, IMAGES = 32, 256  # of every kind, and of those that fit best
PIECE = 32
KINDS_TRIED = 3

# Means and deviations that published code combines: those of the known normalisations, of Tiny ImageNet, one
# number for all channels, a scale alone, means that are subtracted from pixels up to 1 or 255.
MEANS = ((0.0,), (0.5,), (0.4802, 0.4481, 0.3975))
DEVIATIONS = ((1.0,), (0.5,), (0.25,), (0.2,), (1 / 255,), (0.2302, 0.2265, 0.2262))

# The responses to the channels explain what the batch-norm sees to this share, or it is no sum of them.
LINEAR = 1e-3


@dataclass(frozen=True)
class FirstLayer:
    """What the first batch-norm sees of images, as a function of their normalisation.

    Attributes:
        firsts: [1 + groups, outputs, 2 C] mean responses to each channel, then to ones in it: of all images,
            then without each group, as of ``over_groups``.
        seconds: [1 + groups, outputs, 2 C, 2 C] mean products of them.
        images: how many there are.
        name: of the batch-norm.
        norm: the batch-norm.
    """

    firsts: Tensor
    seconds: Tensor
    images: int
    name: str
    norm: torch.nn.modules.batchnorm._BatchNorm

    @property
    def first(self) -> Tensor:
        """[outputs, 2 C] means over the images."""
        return self.firsts[0]

    @property
    def second(self) -> Tensor:
        """[outputs, 2 C, 2 C] means over the images."""
        return self.seconds[0]

    def divergence(self, mean: Tensor, std: Tensor) -> Tensor:
        """[t] of normalisations ``mean`` and ``std`` [t, C]: how far it is from what is remembered."""
        weights = torch.cat([1 / std, -mean / std], 1)
        first = weights @ self.first.T
        second = torch.einsum("tj,ojk,tk->to", weights, self.second, weights)
        return divergences(self.norm, torch.stack([first, second], 1))

    def fingerprint(self, normalisation: Normalisation) -> Fingerprint:
        """What looking at these images behind that normalisation would find."""
        mean, std = (
            torch.tensor(part, dtype=torch.float64) for part in (normalisation.mean, normalisation.std)
        )
        weights = torch.cat([1 / std, -mean / std])
        seen = torch.stack([self.firsts @ weights, (self.seconds @ weights) @ weights], 1)
        return fingerprint_of_means(seen, {self.name: self.norm}, self.images)

    def among(self, choices: Sequence[Normalisation]) -> tuple[Normalisation, float]:
        """The best of them, and its divergence."""
        mean, std = (
            torch.tensor([getattr(one, part) for one in choices]).double() for part in ("mean", "std")
        )
        found = self.divergence(mean, std)
        best = int(found.argmin())
        return choices[best], float(found[best])


class Patches:
    """Images, and the moments of the patches that filters see of them.

    Args:
        images: [n, C, H, W] in [0, 1].
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self._moments: dict[tuple, tuple[Tensor, Tensor]] = {}

    def moments(self, convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
        """[1 + groups, taps] means and [1 + groups, taps, taps] mean products, as of ``over_groups``.

        The taps are those of every channel, then those of an image of ones, which padding surrounds with 0.
        """
        sides = _pair(convolution.kernel_size), _pair(convolution.stride), _pair(convolution.padding)
        if sides not in self._moments:
            layout = nn.Unfold(sides[0], stride=sides[1], padding=sides[2])
            ones = layout(torch.ones_like(self.images[:1, :1]))
            basis = torch.cat([layout(self.images), ones.expand(len(self.images), -1, -1)], 1)
            products = basis @ basis.mT / basis.shape[2]
            means, products = basis.mean(2).cpu().double(), products.cpu().double()
            self._moments[sides] = over_groups(means), over_groups(products)
        return self._moments[sides]


def first_layer(assembly: Assembly, arch: str, patches: Patches) -> FirstLayer | None:
    """What the first batch-norm of a variant sees of images; None where it is no such sum."""
    if (layer := first_convolution(assembly, arch, patches)) is not None:
        return layer
    network = assembly.network(arch)
    name, norm = next(iter(trained_batch_norms(network).items()))
    first, second = [], []
    for piece in patches.images.split(PIECE):
        basis = _responses(network, name, piece)
        if basis is None:
            return None
        by_image = basis.permute(1, 2, 0, 3)  # [n, outputs, 2 C, pixels]
        first.append(by_image.mean(3).cpu().double())
        second.append((by_image @ by_image.mT / by_image.shape[3]).cpu().double())
    firsts, seconds = over_groups(torch.cat(first)), over_groups(torch.cat(second))
    return FirstLayer(firsts, seconds, len(patches.images), name, norm)


@torch.no_grad()
def first_convolution(assembly: Assembly, arch: str, patches: Patches) -> FirstLayer | None:
    """The same where one convolution without a bias is all that is before the batch-norm; else None.

    Its moments follow from those of the patches that its filters see, whatever its weights: that takes less
    than one normalisation sent through it.
    """
    found = assembly.first_convolutions.get(arch)
    if arch not in assembly.first_convolutions:
        network, images = assembly.network(arch), patches.images
        name, norm = next(iter(trained_batch_norms(network).items()))
        # Every pixel another one: no image that looks the same with its channels reversed.
        probe = torch.linspace(0, 1, images[0].numel(), device=images.device).view_as(images[:1])
        before = _convolution_before(network, name, probe)
        found = None if before is None else FirstConvolution(*before, name, norm)
        assembly.first_convolutions[arch] = found
    if found is None:
        return None
    means, products = patches.moments(found.convolution)
    weight = found.convolution.weight.detach()
    outputs, channels = weight.shape[:2]
    filters = weight.flatten(2).cpu().double()  # [outputs, C, taps]
    if found.turned:  # parts of the normalisation, and patches, are in the order of the images' own channels
        filters = filters.flip(1)
    taps = filters.shape[2]
    weights = filters.new_zeros(outputs, 2 * channels, channels + 1, taps)
    for channel in range(channels):
        weights[:, channel, channel] = filters[:, channel]
        weights[:, channels + channel, channels] = filters[:, channel]
    weights = weights.flatten(2)
    first = torch.einsum("oai,ni->noa", weights, means)
    half = (weights.flatten(0, 1) @ products).unflatten(1, (outputs, 2 * channels))
    second = half @ weights.mT
    return FirstLayer(first.cpu(), second.cpu(), len(patches.images), found.name, found.norm)


def _pair(sides: object) -> tuple[int, int]:
    assert isinstance(sides, tuple)
    rows, columns = sides
    return rows, columns


def _convolution_before(network: nn.Module, name: str, image: Tensor) -> tuple[nn.Conv2d, bool] | None:
    """The convolution whose output a batch-norm sees, and whether it takes the image's channels reversed."""
    calls: list[tuple[nn.Conv2d, Tensor, Tensor]] = []
    seen: list[Tensor] = []

    def see(module: nn.Module, x: Tensor, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            calls.append((module, x, output))
        else:
            seen.append(x)
            raise Enough

    convolutions = (one for one in network.modules() if isinstance(one, nn.Conv2d))
    with watched([*convolutions, network.get_submodule(name)], see):
        network(image)
    if len(calls) != 1 or calls[0][2] is not seen[0]:
        return None
    convolution, taken, _ = calls[0]
    plain = type(convolution) is nn.Conv2d and convolution.bias is None and convolution.groups == 1
    zeros = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    if not plain or not zeros or convolution.dilation != (1, 1) or taken.shape != image.shape:
        return None
    turned = not torch.equal(taken, image)
    if turned and not torch.equal(taken, image.flip(1)):
        return None
    return convolution, turned


@torch.no_grad()
def _responses(network: torch.nn.Module, name: str, x: Tensor) -> Tensor | None:
    """[2 C, n, outputs, pixels] what a batch-norm sees of each channel of x alone, then of ones in it."""
    seen: list[Tensor] = []

    def see(module: nn.Module, x: Tensor, output: Tensor) -> None:
        x = x.float()
        seen.append(x.flatten(2) if x.ndim > 2 else x[..., None])
        raise Enough

    norm = network.get_submodule(name)
    channels = x.shape[1]
    one = torch.ones_like(x[:1])
    alone = torch.eye(channels, device=x.device)[:, None, :, None, None]
    for part in (x[:1], 0 * one, (x * alone).flatten(0, 1), (one * alone).flatten(0, 1)):
        with watched([norm], see):
            network(part)
    whole, nothing, images, ones = seen
    images = images.unflatten(0, (channels, len(x)))
    least = LINEAR * float(whole.abs().max())
    apart = float((images[:, :1].sum(0) - whole).abs().max())
    if float(nothing.abs().max()) > least or apart > least:
        return None
    return torch.cat([images, ones[:, None].expand_as(images)])


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
    """Combinations of known numbers with kinds of images whose divergence is less than ``better_than``."""
    choices = combinations(assembly.checkpoint.channels)
    seen = []
    for kind in kinds:
        layer = first_layer(assembly, arch, Patches(assembly.inputs(kind, 0, FEW_IMAGES)))
        if layer is None:
            return []
        seen.append((*layer.among(choices)[::-1], kind))
    found = []
    for _, combination, kind in sorted(seen, key=lambda one: one[0])[:KINDS_TRIED]:
        layer = first_layer(assembly, arch, Patches(assembly.inputs(kind, 0, IMAGES)))
        assert layer is not None
        if layer.among([combination])[1] < better_than:
            found.append((combination, kind))
    return found
