"""ResNet-20/32/44/56 for CIFAR (He et al. 2015, arXiv 1512.03385, section 4.2), shortcuts of option A.

Names of the weights are those of the files trained with akamaster's implementation.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_coded.models.block_network import BlockNetwork
from robustbench_coded.models.dropout import Dropout


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; a shortcut without weights: every second pixel, new channels zero."""

    def __init__(self, in_planes: int, planes: int, stride: int, dropout: float):
        super().__init__()
        self.stride = stride
        self.new_planes = planes - in_planes
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.dropout = Dropout(dropout)

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.new_planes == 0:
            return x
        # The trained files expect half of the zero channels in front.
        before = self.new_planes // 2
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, before, self.new_planes - before))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu()
        out = self.dropout(self.bn2(self.conv2(out)))
        return (out + self._shortcut(x)).relu()


class ResNetCifar(BlockNetwork):
    """6 n + 2 layers: a 3x3 stem and three stages of n blocks with 16, 32 and 64 channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 6 n + 2.
        dropout: probability after the second batch-norm of each block.
    """

    def __init__(self, classes: int = 10, in_channels: int = 3, depth: int = 20, dropout: float = 0.0):
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"expected depth 6 n + 2, got {depth}")
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, n, stride=1, dropout=dropout)
        self.layer2 = self._stage(16, 32, n, stride=2, dropout=dropout)
        self.layer3 = self._stage(32, 64, n, stride=2, dropout=dropout)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(in_planes: int, planes: int, n: int, stride: int, dropout: float) -> nn.Sequential:
        first = BasicBlock(in_planes, planes, stride, dropout)
        return nn.Sequential(first, *(BasicBlock(planes, planes, 1, dropout) for _ in range(n - 1)))

    def _stem(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x)).relu()

    def _last(self, x: Tensor) -> Tensor:
        return self.linear(self.layer3(x).mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Four functions whose composition is the network: stem, two stages, the last stage with the head."""
        return [self._stem, self.layer1, self.layer2, self._last]
