"""A network of which some logits are compared alone, for data sets of some of its classes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robustbench_coded.models.architectures.block_network import BlockNetwork


class SomeClasses(BlockNetwork):
    """A network with all but some of its outputs left out.

    Args:
        network: images to logits (batch, classes).
        outputs: the classes that are left, in the order of the new logits.
    """

    outputs: Tensor

    def __init__(self, network: nn.Module, outputs: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("outputs", torch.tensor(list(outputs)), persistent=False)

    def _inner(self) -> list[Callable[[Tensor], Tensor]]:
        return self.network.blocks() if isinstance(self.network, BlockNetwork) else [self.network]

    def _last(self, x: Tensor) -> Tensor:
        return self._inner()[-1](x).index_select(1, self.outputs)

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Those of the network; the last one chooses."""
        return [*self._inner()[:-1], self._last]
