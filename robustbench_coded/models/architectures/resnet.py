"""ResNets with a 3x3 stem for small images, those of He et al. for CIFAR (arXiv 1512.03385), and
PreActResNet-18 (arXiv 1603.05027).
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_coded.models.architectures import layers
from robustbench_coded.models.pixel_model import BlockNetwork


def _shortcut(in_planes: int, planes: int, stride: int) -> nn.Sequential:
    if stride == 1 and in_planes == planes:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which ``project`` makes."""

    expansion = 1
    project: Callable[[int, int, int], nn.Module] = staticmethod(_shortcut)

    def __init__(self, in_planes: int, planes: int, stride: int, dropout: float):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.dropout = layers.Dropout(dropout)
        self.shortcut = self.project(in_planes, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu()
        out = self.dropout(self.bn2(self.conv2(out)))
        return (out + self.shortcut(x)).relu()


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions."""

    expansion = 4

    def __init__(self, in_planes: int, planes: int, stride: int, dropout: float):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.dropout = layers.Dropout(dropout)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.shortcut = _shortcut(in_planes, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu()
        out = self.dropout(self.bn2(self.conv2(out))).relu()
        return (self.bn3(self.conv3(out)) + self.shortcut(x)).relu()


STAGES: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(BlockNetwork):
    """A 3x3 stem and four stages with 64, 128, 256 and 512 channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 18, 34 or 50.
        dropout: probability after the second batch-norm of each block.
    """

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        depth: int = 18,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth not in STAGES:
            raise ValueError(f"expected depth 18, 34 or 50, got {depth}")
        block, counts = STAGES[depth]
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        make = partial(block, dropout=dropout)
        stages = layers.four_stages(make, counts, block.expansion)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(512 * block.expansion, classes)

    def _stem(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x)).relu()

    def _last(self, x: Tensor) -> Tensor:
        return self.linear(self.layer4(x).mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Five functions whose composition is the network: stem, three stages, last stage with the head."""
        return [self._stem, self.layer1, self.layer2, self.layer3, self._last]


class OptionA(nn.Module):
    """A shortcut without weights: every second pixel, and new channels of zeros on both sides of the old."""

    def __init__(self, in_planes: int, planes: int, stride: int):
        super().__init__()
        before = (planes - in_planes) // 2
        self.stride, self.beside = stride, (0, 0, 0, 0, before, planes - in_planes - before)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.beside)


class CifarBlock(BasicBlock):
    """Two 3x3 convolutions beside a shortcut without weights."""

    project = OptionA


class ResNetCifar(BlockNetwork):
    """6 n + 2 layers: a 3x3 stem and three stages of n blocks with 16, 32 and 64 channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 6 n + 2.
        dropout: probability after the second batch-norm of each block.
    """

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        depth: int = 20,
        dropout: float = 0.0,
    ):
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"expected depth 6 n + 2, as in resnet20 and resnet32, got {depth}")
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        block = partial(CifarBlock, dropout=dropout)
        self.layer1 = layers.stage(block, 16, 16, n, 1)
        self.layer2 = layers.stage(block, 16, 32, n, 2)
        self.layer3 = layers.stage(block, 32, 64, n, 2)
        self.linear = nn.Linear(64, classes)

    def _stem(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x)).relu()

    def _last(self, x: Tensor) -> Tensor:
        return self.linear(self.layer3(x).mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Four functions whose composition is the network: stem, two stages, the last stage with the head."""
        return [self._stem, self.layer1, self.layer2, self._last]


class PreActResNet18(BlockNetwork):
    """A 3x3 stem and four stages of two blocks with 64, 128, 256 and 512 channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        final_bn: batch-norm and ReLU before the pooling (weights ``bn.*``).
        dropout: probability after the second batch-norm of each block.
        raw: whether shortcuts see the blocks' inputs themselves, not what is activated.
    """

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        final_bn: bool = False,
        dropout: float = 0.0,
        raw: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        block = partial(layers.PreActBlock, dropout=dropout, raw=raw)
        self.layer1, self.layer2, self.layer3, self.layer4 = layers.four_stages(block, (2, 2, 2, 2))
        self.bn = nn.BatchNorm2d(512) if final_bn else None
        self.linear = nn.Linear(512, classes)

    def _last(self, x: Tensor) -> Tensor:
        x = self.layer4(x)
        if self.bn is not None:
            x = self.bn(x).relu()
        return self.linear(x.mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """The five blocks of the paper's Table 8: stem, three stages, the last stage with the head."""
        return [self.conv1, self.layer1, self.layer2, self.layer3, self._last]
