"""Published defences inside the network: activations that survive or are noisy, random filters, weights."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from robustbench_coded.defences.protocol import Deterministic, Seeded, WrappedNetwork, normal
from robustbench_coded.errors import InputError

Change = Callable[[Tensor, torch.Generator, int], Tensor]  # (input, generator, number of the layer) -> input
LAYERS = (nn.Conv2d, nn.Linear)


class ChangedLayers(WrappedNetwork):
    """Answers like the network, with ``change`` applied to the input of every convolution and linear layer.

    The network itself is left as it is: the changes last for one answer. So it can be trained through them.

    Attributes:
        change: gets a layer's input [k, ...], the generator of the answer and the layer's number from 0 on.
        changed: the layers, in the network's order.
    """

    change: Change
    changed = slice(1, None)  # the first one gets the image as it is

    def __init__(self, model: nn.Module):
        super().__init__(model)
        layers = [part for part in model.modules() if isinstance(part, LAYERS)]
        self.layers = list(enumerate(layers))[self.changed]

    def logits(self, x: Tensor, draw: int | None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]; the same draw gives the same answer."""
        generator = torch.Generator().manual_seed(draw or 0)
        with ExitStack() as changes:
            for number, layer in self.layers:
                hook = partial(self._changed, generator, number)
                changes.enter_context(layer.register_forward_pre_hook(hook))
            return self.model(x)

    def _changed(
        self, generator: torch.Generator, number: int, layer: nn.Module, inputs: tuple[Tensor, ...]
    ) -> Any:
        """What torch calls before a layer."""
        return (self.change(inputs[0], generator, number), *inputs[1:])


WINNERS = 0.2


def winners(a: Tensor, generator: torch.Generator | None = None, layer: int = 0) -> Tensor:
    """Activations [k, ...] with all but the largest ``SHARE`` of each example set to 0."""
    flat = a.flatten(1)
    count = max(1, round(WINNERS * flat.shape[1]))
    least = flat.topk(count, dim=1).values[:, -1:]
    return (flat * (flat >= least)).view_as(a)


class KWinnersTakeAll(ChangedLayers, Deterministic):
    """Keeps the largest fifth of each layer's inputs, for every example by itself."""

    change = staticmethod(winners)


SAMPLES = 1.0  # drawn in each layer, as a share of its activations


def prune(a: Tensor, generator: torch.Generator, layer: int = 0) -> Tensor:
    """Activations [k, ...] with those that were not drawn set to 0, the others scaled up."""
    flat = a.flatten(1)
    samples = max(1, round(SAMPLES * flat.shape[1]))
    p = flat.abs() / flat.abs().sum(1, keepdim=True).clamp(min=1e-12)
    at = torch.rand(len(flat), samples, generator=generator).to(flat)
    with torch.no_grad():
        drawn = torch.searchsorted(p.cumsum(1), at).clamp(max=flat.shape[1] - 1)
        mask = torch.zeros_like(flat).scatter_(1, drawn, 1.0) * (flat != 0)
    survives = -torch.expm1(samples * torch.log1p(-p.clamp(max=1 - 1e-6)))
    return (flat * mask / survives.clamp(min=1e-6)).view_as(a)


class StochasticActivationPruning(ChangedLayers, Seeded):
    """An activation a_i is drawn with probability p_i = |a_i| / sum |a|; those never drawn become 0.

    The others are divided by the probability to be drawn at all, 1 - (1 - p_i)^r for r samples.
    """

    change = staticmethod(prune)


ACTIVATIONS = {
    torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_, functional.relu, functional.leaky_relu,
    functional.elu, functional.silu, functional.gelu, torch.tanh, torch.Tensor.tanh,
}  # fmt: skip


class BeforeActivations(TorchFunctionMode):
    """Gives every activation function ``change(input, number)`` in place of its input [k, channels, ...].

    Attributes:
        number: how many activation functions were called so far; also what ``change`` gets, from 0 on.
    """

    def __init__(self, change: Callable[[Tensor, int], Tensor]):
        super().__init__()
        self.change, self.number = change, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in ACTIVATIONS:
            args = (self.change(args[0], self.number), *args[1:])
            self.number += 1
        return func(*args, **(kwargs or {}))


NEAR = 0.25  # deviations from a channel's mean


class MeanSparse(WrappedNetwork, Deterministic):
    """What is given to activation functions becomes its channel's mean where it is near it.

    The slope is 0 there, and 1 elsewhere.
    """

    def __init__(self, model: nn.Module, pool: Tensor):
        """Raises InputError where the network calls no activation function that is known."""
        super().__init__(model)
        self.channels: list[tuple[Tensor, Tensor]] = []  # mean and deviation before each activation function
        with torch.no_grad(), BeforeActivations(lambda a, number: a) as counted:
            model(pool[:1])
        if not counted.number:
            raise InputError("the network calls no activation function; give a checkpoint of one that does")
        seen: list[list[Tensor]] = [[] for _ in range(counted.number)]

        def keep(a: Tensor, number: int) -> Tensor:
            seen[number % len(seen)].append(a.detach())  # a network may answer the pool in pieces
            return a

        with torch.no_grad(), BeforeActivations(keep):
            model(pool)
        for values in seen:
            channels = torch.cat(values).transpose(0, 1).flatten(1)
            self.channels.append((channels.mean(1), channels.std(1, correction=0)))

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        with BeforeActivations(self._sparse):
            return self.model(x)

    def _sparse(self, a: Tensor, number: int) -> Tensor:
        mean, deviation = (
            value.to(a).view(-1, *[1] * (a.ndim - 2)) for value in self.channels[number % len(self.channels)]
        )
        return torch.where((a - mean).abs() < NEAR * deviation, mean, a)


RANDOM_FILTERS = 1 / 4


class RandomProjectionFilters(WrappedNetwork, Seeded):
    """The network with new filters in every answer, each with the norm of the one that it replaces."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.name_of_first, self.first = _first_convolution(model)

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        filters = projected(self.first.weight, torch.Generator().manual_seed(draw))
        return functional_call(self.model, {f"{self.name_of_first}.weight": filters}, (x,))


def projected(filters: Tensor, generator: torch.Generator) -> Tensor:
    """Filters [channels, ...] of which the first ``SHARE`` are Gaussian, with the norms that they had."""
    count = max(1, round(RANDOM_FILTERS * len(filters)))
    old = filters[:count].flatten(1)
    drawn = normal(generator, old)
    drawn = drawn * old.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
    return torch.cat([drawn.view_as(filters[:count]), filters[count:]])


DEVIATION = 2 / 3


class RandomWeights(ChangedLayers, Seeded):
    """The normalised image times Gaussian weights of mean 1, one for each pixel and channel."""

    changed = slice(1)

    @staticmethod
    def change(a: Tensor, generator: torch.Generator, layer: int) -> Tensor:
        """The images of a batch [k, C, H, W], all by the same weights."""
        return a * (1 + DEVIATION * normal(generator, a[:1]))


def _first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and name:
            return name, layer
    raise InputError("the network has no convolution whose filters could be random; give one that has")


def convolved(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The outputs of all convolutions on x [k, C, H, W], in the order in which they are computed."""
    outputs: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                hooks.enter_context(layer.register_forward_hook(lambda *call: outputs.append(call[2])))
        model(x)
    return outputs
