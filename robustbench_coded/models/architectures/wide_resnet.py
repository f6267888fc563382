"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146), WRN-28-10 above all.

Names of the weights are those that most robust checkpoints use (``block1.layer.0.bn1``, ``convShortcut``).
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from robustbench_coded.models.architectures.activations import activation_named
from robustbench_coded.models.architectures.block_network import BlockNetwork
from robustbench_coded.models.architectures.dropout import Dropout
from robustbench_coded.models.architectures.preact_parts import PreactParts
from robustbench_coded.models.architectures.stage import blocks_of_wide, stage
from robustbench_coded.models.architectures.stem import enter, stem_stride


class WideBlock(nn.Module):
    """Batch-norm and ReLU before each 3x3 convolution."""

    def __init__(self, in_planes: int, planes: int, stride: int, dropout: float, parts: PreactParts):
        super().__init__()
        self.parts = parts
        self.activation = activation_named(parts.activation)
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.dropout = Dropout(dropout)
        # The trained files put a convolution on the shortcut where the channels change, and only there.
        self.convShortcut: nn.Conv2d | None = None
        if in_planes != planes:
            self.convShortcut = nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.activation(self.bn1(x))
        if self.convShortcut is None:
            shortcut = active if self.parts.identity == "active" else x
        else:
            shortcut = self.convShortcut(x if self.parts.shortcut == "raw" else active)
        out = self.activation(self.dropout(self.bn2(self.conv1(active))))
        return self.conv2(out) + shortcut


class WideStage(nn.Module):
    """``count`` blocks; its one child is called ``layer``, as in the trained files."""

    def __init__(
        self, in_planes: int, planes: int, count: int, stride: int, dropout: float, parts: PreactParts
    ) -> None:
        super().__init__()
        block = partial(WideBlock, dropout=dropout, parts=parts)
        self.layer = stage(block, in_planes, planes, count, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(BlockNetwork):
    """A 3x3 stem of 16 channels and three stages with 16, 32 and 64 times ``width`` channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 6 n + 4.
        width: factor on the channels.
        dropout: probability after the second batch-norm of each block.
        stem: ``plain``, or what halves the image there; see ``stem``.
        parts: as in :class:`PreactParts`.
    """

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        depth: int = 28,
        width: int = 10,
        dropout: float = 0.0,
        stem: str = "plain",
        **parts: str,
    ) -> None:
        super().__init__()
        n = blocks_of_wide(depth, width)
        self.parts = PreactParts(**parts)
        self.activation = activation_named(self.parts.activation)
        self.stem = stem
        self.conv1 = nn.Conv2d(in_channels, 16, 3, stride=stem_stride(stem), padding=1, bias=False)
        self.block1 = WideStage(16, 16 * width, n, 1, dropout, self.parts)
        self.block2 = WideStage(16 * width, 32 * width, n, 2, dropout, self.parts)
        self.block3 = WideStage(32 * width, 64 * width, n, 2, dropout, self.parts)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)

    def _last(self, x: Tensor) -> Tensor:
        return self.fc(self.activation(self.bn1(self.block3(x))).mean((2, 3)))

    def _stem(self, x: Tensor) -> Tensor:
        return enter(self.conv1(x), self.stem)

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Four functions whose composition is the network: stem, two stages, the last stage with the head."""
        return [self._stem, self.block1, self.block2, self._last]


def name_for(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """``wrn-DEPTH-WIDTH`` as the shapes of the weights have it; None where they are of another family."""
    first = shapes.get("block1.layer.0.conv1.weight")
    if first is None or len(first) != 4 or first[0] < 16:
        return None
    count = sum(name.startswith("block1.layer.") and name.endswith(".conv1.weight") for name in shapes)
    return f"wrn-{6 * count + 4}-{first[0] // 16}"
