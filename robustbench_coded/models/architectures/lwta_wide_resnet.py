"""Wide residual networks with stochastic local winner-takes-all activations (arXiv 2112.02671).

The activation takes the place of ReLU. It samples in every answer, from torch's global generator; so the
network is a randomised defence by itself, and is evaluated as one.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from robustbench_coded.models.architectures import wide_resnet
from robustbench_coded.models.architectures.block_network import BlockNetwork
from robustbench_coded.models.architectures.stage import stage

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


class LwtaBlock(nn.Module):
    """Batch-norm and competition before each 3x3 convolution, and before the one on the shortcut."""

    def __init__(self, in_planes: int, planes: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.lwta1 = Competition()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.lwta2 = Competition()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.convShortcut: nn.Conv2d | None = None
        if in_planes != planes:
            self.convShortcut = nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.lwta1(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        return self.conv2(self.lwta2(self.bn2(self.conv1(active)))) + shortcut


class LwtaStage(nn.Module):
    """``count`` blocks; its one child is called ``layer``, as in the trained files."""

    def __init__(self, in_planes: int, planes: int, count: int, stride: int):
        super().__init__()
        self.layer = stage(LwtaBlock, in_planes, planes, count, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class LwtaWideResNet(BlockNetwork):
    """A wide ResNet (``wide_resnet``) in which channels compete; ``samples`` says that it draws inside.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 6 n + 4.
        width: factor on the channels.
    """

    samples = True

    def __init__(self, classes: int = 10, in_channels: int = 3, depth: int = 34, width: int = 1) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"expected depth 6 n + 4, got {depth}")
        if width < 1:
            raise ValueError(f"expected width >= 1, got {width}")
        n = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = LwtaStage(16, 16 * width, n, 1)
        self.block2 = LwtaStage(16 * width, 32 * width, n, 2)
        self.block3 = LwtaStage(32 * width, 64 * width, n, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.lwta = Competition()
        self.fc = nn.Linear(64 * width, classes)

    def _last(self, x: Tensor) -> Tensor:
        return self.fc(self.lwta(self.bn1(self.block3(x))).mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Four functions whose composition is the network: stem, two stages, the last stage with the head."""
        return [self.conv1, self.block1, self.block2, self._last]


def name_for(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """``lwta-wrn-DEPTH-WIDTH`` as the shapes have it; None for a network without competitions."""
    plain = wide_resnet.name_for(shapes)
    return f"lwta-{plain}" if plain is not None and "block1.layer.0.lwta1.temp" in shapes else None
