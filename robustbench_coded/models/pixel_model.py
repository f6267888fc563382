"""Networks from pixels to logits: the base class of all architectures, and wrappers of their inputs and
outputs.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint


class BlockNetwork(nn.Module):
    """Images (batch, channels, height, width) -> logits (batch, classes), by way of :attr:`blocks`.

    Attributes:
        blocks: answers the functions whose composition, first to last, is the network.
        samples: whether it draws random numbers in every answer; None where nobody knows.
    """

    blocks: Callable[[], list[Callable[[Tensor], Tensor]]]
    samples: bool | None = False

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks():
            x = block(x)
        return x


class Chain:
    """Blocks one after the other."""

    def __init__(self, blocks: Sequence[Callable[[Tensor], Tensor]]):
        self.blocks = blocks

    def __call__(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def blocks_of(network: nn.Module) -> list[Callable[[Tensor], Tensor]]:
    """The blocks of a network; one from outside is a single block."""
    return network.blocks() if isinstance(network, BlockNetwork) else [network]


def standardised(x: Tensor) -> Tensor:
    """x [n, C, H, W] less each image's mean, over its deviation or 1 / sqrt(C H W) where that is larger.

    Source: arXiv 1812.02637.
    """
    mean = x.mean((1, 2, 3), keepdim=True)
    deviation = x.std((1, 2, 3), keepdim=True)
    return (x - mean) / deviation.clamp(min=x[0].numel() ** -0.5)


class SomeClasses(BlockNetwork):
    """A network with some of its outputs.

    Args:
        network: images to logits (batch, classes).
        outputs: the remaining classes, in the order of the new logits.
    """

    outputs: Tensor

    def __init__(self, network: nn.Module, outputs: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.samples = getattr(network, "samples", None)
        self.register_buffer("outputs", torch.tensor(list(outputs)), persistent=False)

    def _last(self, x: Tensor) -> Tensor:
        return blocks_of(self.network)[-1](x).index_select(1, self.outputs)

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Those of the network; the last one chooses."""
        return [*blocks_of(self.network)[:-1], self._last]


# Images that go through a network at once on a CPU: so many of CIFAR's stay in its cache from layer to layer.
# With 256 at once each costs a sixth more, with 768 half as much again.
CPU_IMAGES = 128
# Of images this small more stay there: 8x8 digits cost an eighth less than in pieces of 128.
SMALL_PIXELS, SMALL_IMAGES = 16 * 16, 512
# Of images so large fewer: a ResNet-50 holds 2 GiB for the gradients of 20 of ImageNet's.
LARGE_PIXELS = 2**20


def images_at_once(pixels: int, most: int) -> int:
    """How many images of so many pixels, ``most`` where they are neither small nor large."""
    return SMALL_IMAGES if pixels <= SMALL_PIXELS else max(1, min(most, LARGE_PIXELS // pixels))


class PixelModel(nn.Module):
    """Pixels (batch, channels, height, width) in [0, 1] -> logits (batch, classes), float32, in eval mode.

    Where the network computes in another ``dtype``, pixels, logits, gradients and what is between blocks are
    float32 all the same.

    Args:
        network: takes normalised images; its parameters are frozen.
        mean: one number a channel.
        std: one positive number a channel.
        classes: number of classes.
        arch: name of the architecture.
        dtype: of the network's weights, where it is not float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        classes: int,
        arch: str,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.classes = classes
        self.channels = len(mean)
        self.arch = arch
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self.eval().requires_grad_(False)

    def _in_dtype(self, part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return part(x) if self.dtype is None else part(x.to(self.dtype)).float()

    def _first(self, x: Tensor) -> Tensor:
        return self._in_dtype(blocks_of(self.network)[0], (x - self.mean) / self.std)

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """The functions whose composition is the Model; block 0 begins with the normalisation.

        A network from outside is one block.
        """
        return [self._first, *(partial(self._in_dtype, block) for block in blocks_of(self.network)[1:])]

    def forward(self, x: Tensor) -> Tensor:
        # What is traced must not depend on how many images there are.
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return self._at_once(x)
        most = images_at_once(x.shape[-2:].numel(), CPU_IMAGES)
        if len(x) <= most:
            return self._at_once(x)
        # Every image is answered by itself, so in pieces they get the same answers. The gradient of large
        # ones holds one piece at a time: it begins with the last, which is as large as any, and computes
        # the others again, unless a mode changes what is computed.
        if most >= CPU_IMAGES or not torch.is_grad_enabled() or _get_current_function_mode_stack():
            return torch.cat([self._at_once(piece) for piece in x.split(most)])
        *others, last = x.split([len(x) % most or most, *[most] * ((len(x) - 1) // most)])
        outputs = [checkpoint(self._at_once, piece, use_reentrant=False) for piece in others]
        return torch.cat([*outputs, self._at_once(last)])

    def _at_once(self, x: Tensor) -> Tensor:
        return self._in_dtype(self.network, (x - self.mean) / self.std)


@torch.no_grad()
def multiplications(network: nn.Module, image: Tensor) -> int:
    """Multiplications of convolutions and linear layers for one image [1, C, H, W], at least 1.

    Other layers multiply by each of their weights at least once.
    """
    counted = [0]

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        counted[0] += output.numel() * weight[0].numel()  # each output is a product with one filter or row

    counting = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    handles = [module.register_forward_hook(count) for module in counting]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    return max(counted[0], image.numel(), sum(weight.numel() for weight in network.parameters()))
