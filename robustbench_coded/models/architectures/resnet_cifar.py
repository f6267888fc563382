"""CIFAR ResNets of He et al. 2015 (arXiv 1512.03385), with shortcuts of option A."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_coded.models import pixel_model, refusal
from robustbench_coded.models.architectures.layers import Dropout, stage

# Names that mean another network: the bottleneck ResNet-50 has 6 n + 2 layers, too.
TAKEN = ("resnet50",)


class CifarBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without weights."""

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
        """Every second pixel, and new channels of zeros on both sides of the old ones."""
        before = self.new_planes // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_planes - before))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu()
        out = self.dropout(self.bn2(self.conv2(out)))
        return (out + self._shortcut(x)).relu()


class ResNetCifar(pixel_model.BlockNetwork):
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
        self.layer1 = stage(block, 16, 16, n, 1)
        self.layer2 = stage(block, 16, 32, n, 2)
        self.layer3 = stage(block, 32, 64, n, 2)
        self.linear = nn.Linear(64, classes)

    def _stem(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x)).relu()

    def _last(self, x: Tensor) -> Tensor:
        return self.linear(self.layer3(x).mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Four functions whose composition is the network: stem, two stages, the last stage with the head."""
        return [self._stem, self.layer1, self.layer2, self._last]


def resnet_cifar_name(shapes: refusal.Shapes) -> str | None:
    """The name of the architecture that these shapes may be of; None where it is none of these."""
    blocks = sum(name.startswith("layer1.") and name.endswith(".conv1.weight") for name in shapes)
    if not blocks or shapes.get("conv1.weight", ())[:1] != (16,) or "layer4.0.conv1.weight" in shapes:
        return None
    name = f"resnet{6 * blocks + 2}"
    return None if name in TAKEN else name
