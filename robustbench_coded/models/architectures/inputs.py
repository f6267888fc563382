"""Networks before whose first layer something happens to images that no weight tells: ``variants.INPUT``."""

from collections.abc import Callable

from torch import Tensor, nn

from robustbench_coded.models.architectures.block_network import BlockNetwork
from robustbench_coded.models.variants import BGR, PER_IMAGE


def standardised(x: Tensor) -> Tensor:
    """x [n, C, H, W] less each image's mean, over its deviation or 1 / sqrt(C H W) where that is larger.

    Source: arXiv 1812.02637.
    """
    mean = x.mean((1, 2, 3), keepdim=True)
    deviation = x.std((1, 2, 3), keepdim=True)
    return (x - mean) / deviation.clamp(min=x[0].numel() ** -0.5)


def channels_reversed(x: Tensor) -> Tensor:
    """x [n, C, H, W] with its channels in the opposite order."""
    return x.flip(1)


INPUTS: dict[str, Callable[[Tensor], Tensor]] = {PER_IMAGE: standardised, BGR: channels_reversed}


class OtherInput(BlockNetwork):
    """A network behind one of these functions; block 0 begins with it.

    Args:
        network: takes what the function returns.
        form: a name of :data:`INPUTS`.
    """

    def __init__(self, network: nn.Module, form: str) -> None:
        super().__init__()
        self.network = network
        self.form = form

    def _first(self, x: Tensor) -> Tensor:
        return self._inner()[0](INPUTS[self.form](x))

    def _inner(self) -> list[Callable[[Tensor], Tensor]]:
        return self.network.blocks() if isinstance(self.network, BlockNetwork) else [self.network]

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Those of the network."""
        return [self._first, *self._inner()[1:]]
