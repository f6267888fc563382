"""ResNet-20/32/44/56/110 for CIFAR (He et al. 2015, arXiv 1512.03385, section 4.2).

Shortcuts of option A, without weights, or of option B or C, 1x1 convolutions with batch-norm where the shape
changes or in every block. Names of the weights are those of the files trained with akamaster's
implementation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from robustbench_coded.models.architectures.activations import activation_named
from robustbench_coded.models.architectures.block_network import BlockNetwork
from robustbench_coded.models.architectures.dropout import Dropout
from robustbench_coded.models.architectures.shortcuts import check_shortcut, subsampled, widened
from robustbench_coded.models.architectures.stage import stage
from robustbench_coded.models.difference import Shapes

# Names that mean another network: the bottleneck ResNet-50 has 6 n + 2 layers, too.
TAKEN = ("resnet50",)


@dataclass(frozen=True)
class Parts:
    """What the weights do not say. Published files of these very names and shapes differ in each of them.

    Attributes:
        activation: one of ``activations.ACTIVATIONS``.
        subsampling, new_channels: of the shortcut; see ``shortcuts``.
        residual: which blocks have a shortcut: ``all``, the ``identities`` (where the shape stays), ``none``.
        after_sum: ``activated``, or ``raw`` where nothing follows the sum.
    """

    activation: str = "relu"
    subsampling: str = "stride"
    new_channels: str = "both"
    residual: str = "all"
    after_sum: str = "activated"

    def __post_init__(self) -> None:
        activation_named(self.activation)
        check_shortcut(self.subsampling, self.new_channels)
        if self.residual not in ("all", "identities", "none") or self.after_sum not in ("activated", "raw"):
            raise ValueError(
                "expected residual all, identities or none and after_sum activated or raw, got "
                f"{self.residual} and {self.after_sum}"
            )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; a shortcut of option ``a``, ``b`` or ``c``."""

    def __init__(self, in_planes: int, planes: int, stride: int, dropout: float, option: str, parts: "Parts"):
        super().__init__()
        self.stride = stride
        self.new_planes = planes - in_planes
        self.parts = parts
        self.activation = activation_named(parts.activation)
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.dropout = Dropout(dropout)
        self.shortcut: nn.Sequential | None = None
        if option == "c" or (option == "b" and (stride != 1 or in_planes != planes)):
            convolution = nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(planes))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.shortcut is not None:
            passed: Tensor = self.shortcut(x)
            return passed
        x = subsampled(x, self.stride, self.parts.subsampling)
        return widened(x, self.new_planes, self.parts.new_channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.bn1(self.conv1(x)))
        out = self.dropout(self.bn2(self.conv2(out)))
        if self.parts.residual == "all" or (self.parts.residual == "identities" and self.new_planes == 0):
            out = out + self._shortcut(x)
        return out if self.parts.after_sum == "raw" else self.activation(out)


class ResNetCifar(BlockNetwork):
    """6 n + 2 layers: a 3x3 stem and three stages of n blocks with 16, 32 and 64 channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 6 n + 2.
        dropout: probability after the second batch-norm of each block.
        option: of the shortcuts, ``a``, ``b`` or ``c``.
        parts: as in :class:`Parts`.
    """

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        depth: int = 20,
        dropout: float = 0.0,
        option: str = "a",
        **parts: str,
    ):
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"expected depth 6 n + 2, as in resnet20 and resnet32, got {depth}")
        n = (depth - 2) // 6
        self.parts = Parts(**parts)
        self.activation = activation_named(self.parts.activation)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        block = partial(BasicBlock, dropout=dropout, option=option, parts=self.parts)
        self.layer1 = stage(block, 16, 16, n, 1)
        self.layer2 = stage(block, 16, 32, n, 2)
        self.layer3 = stage(block, 32, 64, n, 2)
        self.linear = nn.Linear(64, classes)

    def _stem(self, x: Tensor) -> Tensor:
        return self.activation(self.bn1(self.conv1(x)))

    def _last(self, x: Tensor) -> Tensor:
        return self.linear(self.layer3(x).mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Four functions whose composition is the network: stem, two stages, the last stage with the head."""
        return [self._stem, self.layer1, self.layer2, self._last]


def name_for(shapes: Shapes) -> str | None:
    """The name of the architecture that these shapes may be of; None where it is none of these."""
    blocks = sum(name.startswith("layer1.") and name.endswith(".conv1.weight") for name in shapes)
    if not blocks or shapes.get("conv1.weight", ())[:1] != (16,) or "layer4.0.conv1.weight" in shapes:
        return None
    projected = [name for name in shapes if name.endswith(".shortcut.0.weight")]
    option = "" if not projected else "-c" if "layer1.0.shortcut.0.weight" in projected else "-b"
    name = f"resnet{6 * blocks + 2}{option}"
    return None if name in TAKEN else name
