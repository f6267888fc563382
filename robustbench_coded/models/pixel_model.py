"""Model, as the rest of the project knows it: pixels in, logits out, the normalisation inside."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robustbench_coded.models.architectures.block_network import BlockNetwork

# Images that go through a network at once on a CPU: so many of CIFAR's stay in its cache from layer to layer.
# With 256 at once each costs a sixth more, with 768 half as much again.
CPU_IMAGES = 128
# Of images this small more stay there: 8x8 digits cost an eighth less than in pieces of 128.
SMALL_PIXELS, SMALL_IMAGES = 16 * 16, 512


class PixelModel(nn.Module):
    """Pixels (batch, channels, height, width) in [0, 1] -> logits (batch, classes), float32, in eval mode.

    Args:
        network: takes normalised images; its parameters are frozen.
        mean: one number a channel.
        std: one positive number a channel.
        classes: number of classes.
        arch: name of the architecture.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], *, classes: int, arch: str
    ) -> None:
        super().__init__()
        self.network = network
        self.classes = classes
        self.channels = len(mean)
        self.arch = arch
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self.eval().requires_grad_(False)

    def _first(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        return self._network_blocks()[0](x)

    def _network_blocks(self) -> list[Callable[[Tensor], Tensor]]:
        if isinstance(self.network, BlockNetwork):
            return self.network.blocks()
        return [self.network]

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """The functions whose composition is the Model; block 0 begins with the normalisation.

        A network from outside is one block.
        """
        return [self._first, *self._network_blocks()[1:]]

    def forward(self, x: Tensor) -> Tensor:
        # What is traced must not depend on how many images there are.
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return self._at_once(x)
        most = SMALL_IMAGES if x.shape[-2:].numel() <= SMALL_PIXELS else CPU_IMAGES
        if len(x) <= most:
            return self._at_once(x)
        # Every image is answered by itself, so in pieces they get the same answers.
        return torch.cat([self._at_once(piece) for piece in x.split(most)])

    def _at_once(self, x: Tensor) -> Tensor:
        for block in self.blocks():
            x = block(x)
        return x
