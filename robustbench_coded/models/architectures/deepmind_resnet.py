"""Wide and pre-activation ResNets of Gowal et al. 2020 (arXiv 2010.03593)."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_coded.models import pixel_model
from robustbench_coded.models.architectures.layers import blocks_of_wide, four_stages, stage


def pad_same(x: Tensor, stride: int) -> Tensor:
    """``x`` (batch, channels, height, width), sizes even, padded for a 3x3 convolution of stride 1 or 2."""
    return F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))


class DMWideBlock(nn.Module):
    """Batch-norm and SiLU before each 3x3 convolution; a 1x1 one as shortcut where channels change."""

    def __init__(self, in_planes: int, planes: int, stride: int):
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(in_planes)
        self.conv_0 = nn.Conv2d(in_planes, planes, 3, stride=stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(planes)
        self.conv_1 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if in_planes != planes:
            self.shortcut = nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.silu(self.batchnorm_0(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out = self.conv_0(pad_same(active, self.stride))
        return self.conv_1(F.silu(self.batchnorm_1(out))) + shortcut


class DMWideStage(nn.Module):
    """``count`` blocks; its one child is called ``block``, as in the trained files."""

    def __init__(self, in_planes: int, planes: int, count: int, stride: int):
        super().__init__()
        self.block = stage(DMWideBlock, in_planes, planes, count, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class DMWideResNet(pixel_model.BlockNetwork):
    """A 3x3 stem of 16 channels and three stages with 16, 32 and 64 times ``width`` channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 6 n + 4.
        width: factor on the channels.
    """

    def __init__(self, classes: int = 10, in_channels: int = 3, depth: int = 28, width: int = 10) -> None:
        super().__init__()
        n = blocks_of_wide(depth, width)
        self.init_conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer = nn.Sequential(
            DMWideStage(16, 16 * width, n, 1),
            DMWideStage(16 * width, 32 * width, n, 2),
            DMWideStage(32 * width, 64 * width, n, 2),
        )
        self.batchnorm = nn.BatchNorm2d(64 * width)
        self.logits = nn.Linear(64 * width, classes)

    def _last(self, x: Tensor) -> Tensor:
        return self.logits(F.silu(self.batchnorm(self.layer[2](x))).mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Four functions whose composition is the network: stem, two stages, the last stage with the head."""
        return [self.init_conv, self.layer[0], self.layer[1], self._last]


class DMPreActBlock(nn.Module):
    """Batch-norm and SiLU before each 3x3 convolution."""

    def __init__(self, in_planes: int, planes: int, stride: int):
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(in_planes)
        self.conv_2d_1 = nn.Conv2d(in_planes, planes, 3, stride=stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(planes)
        self.conv_2d_2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Conv2d(in_planes, planes, 3, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(pad_same(x, self.stride))
        out = self.conv_2d_1(pad_same(F.silu(self.batchnorm_0(x)), self.stride))
        return self.conv_2d_2(F.silu(self.batchnorm_1(out))) + shortcut


class DMPreActResNet(pixel_model.BlockNetwork):
    """A 3x3 stem and four stages of two blocks with 64, 128, 256 and 512 channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
    """

    def __init__(self, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv_2d = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.layer_0, self.layer_1, self.layer_2, self.layer_3 = four_stages(DMPreActBlock, (2, 2, 2, 2))
        self.batchnorm = nn.BatchNorm2d(512)
        self.logits = nn.Linear(512, classes)

    def _last(self, x: Tensor) -> Tensor:
        return self.logits(F.silu(self.batchnorm(self.layer_3(x))).mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Five functions whose composition is the network: stem, three stages, last stage with the head."""
        return [self.conv_2d, self.layer_0, self.layer_1, self.layer_2, self._last]
