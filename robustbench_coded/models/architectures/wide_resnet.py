"""Wide ResNets (arXiv 1605.07146), with winner-takes-all activations (arXiv 2112.02671), and those of
Huang et al. (arXiv 2110.03825, 2212.11005).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from robustbench_coded.models import pixel_model
from robustbench_coded.models.architectures import layers


class WideBlock(layers.PreActBlock):
    """A block whose shortcut is called ``convShortcut``."""

    def __init__(
        self, in_planes: int, planes: int, stride: int, dropout: float, activation: str = "relu"
    ) -> None:
        super().__init__(in_planes, planes, stride, dropout, activation=activation)
        self.shortcut = None
        # The trained files put a convolution on the shortcut where the channels change, and only there.
        self.convShortcut: nn.Conv2d | None = None
        if in_planes != planes:
            self.convShortcut = nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False)

    def _projection(self) -> nn.Module | None:
        return self.convShortcut


class WideStage(nn.Module):
    """``count`` blocks; its one child is called ``layer``, as in the trained files."""

    def __init__(self, block: layers.Block, in_planes: int, planes: int, count: int, stride: int) -> None:
        super().__init__()
        self.layer = layers.stage(block, in_planes, planes, count, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(pixel_model.BlockNetwork):
    """A 3x3 stem of 16 channels and three stages with 16, 32 and 64 times ``width`` channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 6 n + 4.
        width: factor on the channels.
        dropout: probability after the second batch-norm of each block.
        per_image: whether each image is standardised first (:func:`pixel_model.standardised`).
    """

    block: type[WideBlock] = WideBlock

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        depth: int = 28,
        width: int = 10,
        dropout: float = 0.0,
        per_image: bool = False,
    ) -> None:
        super().__init__()
        n = layers.blocks_of_wide(depth, width)
        self.per_image = per_image
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        block = partial(self.block, dropout=dropout)
        self.block1 = WideStage(block, 16, 16 * width, n, 1)
        self.block2 = WideStage(block, 16 * width, 32 * width, n, 2)
        self.block3 = WideStage(block, 32 * width, 64 * width, n, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)

    def _activated(self, x: Tensor) -> Tensor:
        return x.relu()

    def _last(self, x: Tensor) -> Tensor:
        return self.fc(self._activated(self.bn1(self.block3(x))).mean((2, 3)))

    def _stem(self, x: Tensor) -> Tensor:
        return self.conv1(pixel_model.standardised(x) if self.per_image else x)

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Four functions whose composition is the network: stem, two stages, the last stage with the head."""
        return [self._stem, self.block1, self.block2, self._last]


TEMPERATURE = 0.01  # of the Gumbel trick when the network answers; the files' ``temp`` is that of training
SMALLEST = 2.0**-25  # half of the least positive number that torch draws


class Competition(nn.Module):
    """Channels 2i and 2i + 1 compete at each pixel, and one of them survives.

    It is drawn with probability softmax(pair), by a softmax of (pair + Gumbel noise) / 0.01.
    """

    samples = True
    temp: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temp", torch.tensor(1.0))  # is in the files, and not used

    def reset_parameters(self) -> None:
        """As it begins: networks are built without memory for what they hold."""
        self.temp.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        pairs = x.unflatten(1, (-1, 2))
        # From uniform numbers, which are drawn four times faster than exponential_ does: drawing was half of
        # the forward pass. The clamp keeps log(0) out, which 24 bits draw once in 16 million.
        noise = -torch.rand_like(pairs).clamp_(min=SMALLEST).log_().neg_().log_()
        return (pairs * ((pairs + noise) / TEMPERATURE).softmax(2)).flatten(1, 2)


class LwtaBlock(WideBlock):
    """A block in which channels compete in place of the activations."""

    def __init__(self, in_planes: int, planes: int, stride: int, dropout: float) -> None:
        super().__init__(in_planes, planes, stride, dropout)
        self.lwta1, self.lwta2 = Competition(), Competition()

    def _activated(self, x: Tensor, place: int) -> Tensor:
        return (self.lwta1, self.lwta2)[place](x)


class LwtaWideResNet(WideResNet):
    """A wide ResNet in which channels compete; ``samples`` says that it draws inside.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 6 n + 4.
        width: factor on the channels.
    """

    samples = True
    block = LwtaBlock

    def __init__(self, classes: int = 10, in_channels: int = 3, depth: int = 34, width: int = 1) -> None:
        super().__init__(classes, in_channels, depth, width)
        self.lwta = Competition()

    def _activated(self, x: Tensor) -> Tensor:
        return self.lwta(x)


class RobustWideResNet(nn.Module):
    """A 3x3 stem of 16 channels and three stages, under the trained files' name ``blocks``.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depths: number of blocks of each stage.
        planes: channels of each stage.
        activation: a name of ``layers.ACTIVATIONS``.
        named_2022: names of the weights as in the second paper's files.
    """

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        depths: Sequence[int] = (5, 5, 5),
        planes: Sequence[int] = (320, 640, 512),
        activation: str = "relu",
        named_2022: bool = False,
    ) -> None:
        super().__init__()
        self.act = layers.ACTIVATIONS[activation]
        self.stem_conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        block = partial(
            layers.PreActBlock if named_2022 else WideBlock,
            dropout=0.0,
            activation=activation,
        )
        stages = [
            WideStage(block, before, after, count, stride)
            for before, after, count, stride in zip(
                (16, *planes[:-1]), planes, depths, (1, 2, 2), strict=True
            )
        ]
        self.blocks = nn.Sequential(*stages)
        self.final = "norm1" if named_2022 else "bn1"
        self.add_module(self.final, nn.BatchNorm2d(planes[-1]))
        self.fc = nn.Linear(planes[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        final = self.get_submodule(self.final)
        return self.fc(self.act(final(self.blocks(self.stem_conv(x)))).mean((2, 3)))
