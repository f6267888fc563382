"""A network that is a composition of blocks, so that a defence can be put around some of them."""

from collections.abc import Callable

from torch import Tensor, nn


class BlockNetwork(nn.Module):
    """Images (batch, channels, height, width) -> logits (batch, classes), by way of :attr:`blocks`.

    Attributes:
        blocks: answers the functions whose composition, first to last, is the network.
    """

    blocks: Callable[[], list[Callable[[Tensor], Tensor]]]

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks():
            x = block(x)
        return x
