"""A copy of a network in which something is done to what its layers are given."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Change = Callable[[Tensor, torch.Generator, int], Tensor]  # (input, generator, number of the layer) -> input
LAYERS = (nn.Conv2d, nn.Linear)


class ChangedLayers:
    """Answers like the network, with ``change`` applied to the input of every convolution and linear layer.

    Args:
        model: pixels -> logits; it is copied.
        change: gets a layer's input [k, ...], the generator of the answer and the layer's number from 0 on.
        skip_first: whether the first layer gets the image as it is.
    """

    def __init__(self, model: nn.Module, change: Change, *, skip_first: bool):
        self.network = copy.deepcopy(model)
        self.change = change
        self.generator: torch.Generator | None = None
        layers = [part for part in self.network.modules() if isinstance(part, LAYERS)]
        for number, layer in enumerate(layers):
            if number or not skip_first:
                layer.register_forward_pre_hook(_Hook(self, number))

    def __call__(self, x: Tensor, seed: int) -> Tensor:
        """[k, C, H, W] -> [k, classes]; the same seed gives the same answer."""
        self.generator = torch.Generator().manual_seed(seed)
        try:
            return self.network(x)
        finally:
            self.generator = None


class _Hook:
    """What torch calls before a layer; it can be copied together with the network."""

    def __init__(self, of: ChangedLayers, number: int):
        self.of = of
        self.number = number

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        assert self.of.generator is not None
        return (self.of.change(inputs[0], self.of.generator, self.number), *inputs[1:])
