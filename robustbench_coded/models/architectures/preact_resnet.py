"""PreActResNet-18 (He et al. 2016, arXiv 1603.05027), the network of the paper's CIFAR-10 tables.

Names of the weights are kuangliu's; the two forms in use differ in a batch-norm before the pooling.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from robustbench_coded.models.architectures.activations import activation_named
from robustbench_coded.models.architectures.block_network import BlockNetwork
from robustbench_coded.models.architectures.dropout import Dropout
from robustbench_coded.models.architectures.preact_parts import PreactParts
from robustbench_coded.models.architectures.stage import stage
from robustbench_coded.models.architectures.stem import enter, stem_stride


class PreActBlock(nn.Module):
    """Batch-norm and ReLU before each 3x3 convolution; a 1x1 one as shortcut where the shape changes."""

    def __init__(self, in_planes: int, planes: int, stride: int, dropout: float, parts: PreactParts):
        super().__init__()
        self.parts = parts
        self.activation = activation_named(parts.activation)
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.dropout = Dropout(dropout)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        active = self.activation(self.bn1(x))
        if self.shortcut is None:
            shortcut = active if self.parts.identity == "active" else x
        else:
            shortcut = self.shortcut(x if self.parts.shortcut == "raw" else active)
        out = self.conv1(active)
        out = self.conv2(self.activation(self.dropout(self.bn2(out))))
        return out + shortcut


class PreActResNet18(BlockNetwork):
    """A 3x3 stem and four stages of two blocks with 64, 128, 256 and 512 channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        final_bn: batch-norm and ReLU before the pooling (weights ``bn.*``).
        dropout: probability after the second batch-norm of each block.
        stem: ``plain``, or what halves the image there; see ``stem``.
        parts: as in :class:`PreactParts`.
    """

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        final_bn: bool = False,
        dropout: float = 0.0,
        stem: str = "plain",
        **parts: str,
    ) -> None:
        super().__init__()
        self.parts = PreactParts(**parts)
        self.activation = activation_named(self.parts.activation)
        self.stem = stem
        self.conv1 = nn.Conv2d(in_channels, 64, 3, stride=stem_stride(stem), padding=1, bias=False)
        block = partial(PreActBlock, dropout=dropout, parts=self.parts)
        self.layer1 = stage(block, 64, 64, 2, 1)
        self.layer2 = stage(block, 64, 128, 2, 2)
        self.layer3 = stage(block, 128, 256, 2, 2)
        self.layer4 = stage(block, 256, 512, 2, 2)
        self.bn = nn.BatchNorm2d(512) if final_bn else None
        self.linear = nn.Linear(512, classes)

    def _stem(self, x: Tensor) -> Tensor:
        return enter(self.conv1(x), self.stem)

    def _last(self, x: Tensor) -> Tensor:
        x = self.layer4(x)
        if self.bn is not None:
            x = self.activation(self.bn(x))
        return self.linear(x.mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """The five blocks of the paper's Table 8: stem, three stages, the last stage with the head."""
        return [self._stem, self.layer1, self.layer2, self.layer3, self._last]
