"""Pre-activation ResNets under the names of Gowal et al. 2020 (arXiv 2010.03593), with SiLU.

Other than in ``preact_resnet`` the shortcut is a 3x3 convolution, and it sees the block's raw input.
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from robustbench_coded.models.architectures.activations import activation_named
from robustbench_coded.models.architectures.block_network import BlockNetwork
from robustbench_coded.models.architectures.dm_wide_resnet import pad_same
from robustbench_coded.models.architectures.stage import stage

STAGES: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class DMPreActBlock(nn.Module):
    """Batch-norm and activation before each 3x3 convolution."""

    def __init__(self, in_planes: int, planes: int, stride: int, activation: str):
        super().__init__()
        self.act = activation_named(activation)
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
        out = self.conv_2d_1(pad_same(self.act(self.batchnorm_0(x)), self.stride))
        return self.conv_2d_2(self.act(self.batchnorm_1(out))) + shortcut


class DMPreActResNet(BlockNetwork):
    """A 3x3 stem and four stages with 64, 128, 256 and 512 channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 18 or 34.
        activation: a name of ``activations.ACTIVATIONS``.
    """

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        depth: int = 18,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if depth not in STAGES:
            raise ValueError(f"expected depth 18 or 34, got {depth}")
        self.act = activation_named(activation)
        self.conv_2d = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        block = partial(DMPreActBlock, activation=activation)
        stages = []
        in_planes = 64
        for planes, count, stride in zip((64, 128, 256, 512), STAGES[depth], (1, 2, 2, 2), strict=True):
            stages.append(stage(block, in_planes, planes, count, stride))
            in_planes = planes
        self.layer_0, self.layer_1, self.layer_2, self.layer_3 = stages
        self.batchnorm = nn.BatchNorm2d(512)
        self.logits = nn.Linear(512, classes)

    def _last(self, x: Tensor) -> Tensor:
        return self.logits(self.act(self.batchnorm(self.layer_3(x))).mean((2, 3)))

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Five functions whose composition is the network: stem, three stages, last stage with the head."""
        return [self.conv_2d, self.layer_0, self.layer_1, self.layer_2, self._last]


def name_for(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """``dm-preact-resnet18`` or ``-resnet34``, by the number of blocks; None for another family."""
    count = sum(name.startswith("layer_0.") and name.endswith(".conv_2d_1.weight") for name in shapes)
    depth = next((depth for depth, counts in STAGES.items() if counts[0] == count), None)
    return f"dm-preact-resnet{depth}" if depth else None
