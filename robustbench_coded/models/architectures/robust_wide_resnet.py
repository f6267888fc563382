"""Wide ResNets of free stage sizes: Huang et al. 2021 (arXiv 2110.03825) and 2022 (arXiv 2212.11005).

The first paper's WRN-34-R has fewer channels in its last stage; the second's WRN-A4 has free depths, too,
and SiLU. Names of the weights are ``stem_conv``, ``blocks.0.layer.0.conv1``, ``fc``. The two write the
shortcut and the last batch-norm differently: ``convShortcut`` and ``bn1``, or ``shortcut.0`` and ``norm1``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from robustbench_coded.models.architectures.activations import activation_named
from robustbench_coded.models.architectures.block_network import BlockNetwork
from robustbench_coded.models.architectures.stage import stage


class RobustWideBlock(nn.Module):
    """Batch-norm and activation before each 3x3 convolution; a 1x1 one as shortcut where channels change."""

    def __init__(self, in_planes: int, planes: int, stride: int, activation: str, named_2022: bool):
        super().__init__()
        self.act = activation_named(activation)
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        self.convShortcut: nn.Module | None = None
        if in_planes != planes or (named_2022 and stride != 1):
            conv = nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False)
            if named_2022:
                self.shortcut = nn.Sequential(conv)
            else:
                self.convShortcut = conv

    def forward(self, x: Tensor) -> Tensor:
        active = self.act(self.bn1(x))
        projection = self.shortcut or self.convShortcut
        shortcut = x if projection is None else projection(active)
        return self.conv2(self.act(self.bn2(self.conv1(active)))) + shortcut


class RobustWideStage(nn.Module):
    """``count`` blocks; its one child is called ``layer``, as in the trained files."""

    def __init__(
        self, in_planes: int, planes: int, count: int, stride: int, activation: str, named_2022: bool
    ):
        super().__init__()
        block = partial(RobustWideBlock, activation=activation, named_2022=named_2022)
        self.layer = stage(block, in_planes, planes, count, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Stages(nn.ModuleList):
    """The stages: a list under the trained files' name ``blocks``, which called answers the blocks."""

    def __init__(
        self, stages: Sequence[nn.Module], stem: nn.Module, last: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(stages)
        # Kept in tuples, so that they are no children of this list.
        self.around = (stem, last)

    def __call__(self) -> list[Callable[[Tensor], Tensor]]:
        return [self.around[0], *list(self)[:-1], self.around[1]]


class RobustWideResNet(BlockNetwork):
    """A 3x3 stem of 16 channels and three stages.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depths: number of blocks of each stage.
        planes: channels of each stage.
        activation: a name of ``activations.ACTIVATIONS``.
        named_2022: names of the weights as in the second paper's files.
    """

    blocks: Stages

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        depths: Sequence[int] = (5, 5, 5),
        planes: Sequence[int] = (320, 640, 512),
        activation: str = "relu",
        named_2022: bool = False,
    ) -> None:
        super().__init__()
        self.act = activation_named(activation)
        self.stem_conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        stages = [
            RobustWideStage(before, after, count, stride, activation, named_2022)
            for before, after, count, stride in zip(
                (16, *planes[:-1]), planes, depths, (1, 2, 2), strict=True
            )
        ]
        self.blocks = Stages(stages, self.stem_conv, self._last)
        final = nn.BatchNorm2d(planes[-1])
        self.bn1: nn.BatchNorm2d | None = None if named_2022 else final
        self.norm1: nn.BatchNorm2d | None = final if named_2022 else None
        self.fc = nn.Linear(planes[-1], classes)

    def _last(self, x: Tensor) -> Tensor:
        final = self.norm1 or self.bn1
        assert final is not None
        return self.fc(self.act(final(self.blocks[-1](x))).mean((2, 3)))


def name_for(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """``wrn-34-r`` or ``wrn-a4`` where the last stage and its depth are theirs; None for another family."""
    last, final = shapes.get("blocks.2.layer.0.conv1.weight"), shapes.get("stem_conv.weight")
    if last is None or final is None:
        return None
    return "wrn-a4" if "norm1.weight" in shapes else "wrn-34-r"
