"""Networks that normalise each image by its own mean and deviation, as in arXiv 1812.02637."""

from collections.abc import Callable

from torch import Tensor, nn

from robustbench_coded.models.architectures.block_network import BlockNetwork


def standardised(x: Tensor) -> Tensor:
    """x [n, C, H, W] less each image's mean, over its deviation or 1 / sqrt(C H W) where that is larger."""
    mean = x.mean((1, 2, 3), keepdim=True)
    deviation = x.std((1, 2, 3), keepdim=True)
    return (x - mean) / deviation.clamp(min=x[0].numel() ** -0.5)


class PerImage(BlockNetwork):
    """A network behind that normalisation; block 0 begins with it.

    Args:
        network: takes normalised images.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def _first(self, x: Tensor) -> Tensor:
        return self._inner()[0](standardised(x))

    def _inner(self) -> list[Callable[[Tensor], Tensor]]:
        return self.network.blocks() if isinstance(self.network, BlockNetwork) else [self.network]

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Those of the network."""
        return [self._first, *self._inner()[1:]]
