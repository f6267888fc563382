"""torchvision's ResNets, with ImageNet's 7x7 stem and max-pooling, cut into blocks."""

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from robustbench_coded.models.pixel_model import BlockNetwork

STAGES: dict[int, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    18: (BasicBlock, [2, 2, 2, 2]),
    50: (Bottleneck, [3, 4, 6, 3]),
}


class TorchvisionResNet(BlockNetwork, ResNet):
    """torchvision's network with any number of channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 18 or 50.
        width_per_group: 128 makes ResNet-50 the wide ResNet-50-2.
    """

    conv1: nn.Conv2d
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential
    avgpool: nn.Module
    fc: nn.Linear

    def __init__(
        self, classes: int = 1000, in_channels: int = 3, depth: int = 50, width_per_group: int = 64
    ) -> None:
        if depth not in STAGES:
            raise ValueError(f"expected depth 18 or 50, got {depth}")
        block, counts = STAGES[depth]
        super().__init__(block, counts, num_classes=classes, width_per_group=width_per_group)
        if in_channels != 3:
            self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)

    def _stem(self, x: Tensor) -> Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))

    def _last(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.layer4(x)).flatten(1))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Five functions whose composition is the network: stem, three stages, last stage with the head."""
        return [self._stem, self.layer1, self.layer2, self.layer3, self._last]
