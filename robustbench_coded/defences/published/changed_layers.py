"""A network in which something is done to what its layers are given."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Change = Callable[[Tensor, torch.Generator, int], Tensor]  # (input, generator, number of the layer) -> input
LAYERS = (nn.Conv2d, nn.Linear)


class ChangedLayers:
    """Answers like the network, with ``change`` applied to the input of every convolution and linear layer.

    The network itself is left as it is: the changes last for one answer. So it can be trained through them.

    Args:
        model: pixels -> logits.
        change: gets a layer's input [k, ...], the generator of the answer and the layer's number from 0 on.
        skip_first: whether the first layer gets the image as it is.
    """

    def __init__(self, model: nn.Module, change: Change, *, skip_first: bool):
        self.network = model
        self.change = change
        layers = [part for part in model.modules() if isinstance(part, LAYERS)]
        self.layers = list(enumerate(layers))[int(skip_first) :]

    def __call__(self, x: Tensor, seed: int) -> Tensor:
        """[k, C, H, W] -> [k, classes]; the same seed gives the same answer."""
        generator = torch.Generator().manual_seed(seed)
        with ExitStack() as changes:
            for number, layer in self.layers:
                hook = partial(self._changed, generator, number)
                changes.enter_context(layer.register_forward_pre_hook(hook))
            return self.network(x)

    def _changed(
        self, generator: torch.Generator, number: int, layer: nn.Module, inputs: tuple[Tensor, ...]
    ) -> Any:
        """What torch calls before a layer."""
        return (self.change(inputs[0], generator, number), *inputs[1:])
