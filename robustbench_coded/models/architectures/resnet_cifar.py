"""CIFAR ResNets of He et al. 2015 (arXiv 1512.03385), shortcuts of options A, B and C."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_coded.models import pixel_model, refusal
from robustbench_coded.models.architectures.layers import Dropout, activation_named, check_forms, stage

# How a shortcut halves the image: every second pixel, from the first or the second one on; means or maxima.
SUBSAMPLINGS = ("stride", "stride-odd", "mean", "mean-3", "max")

# Where it puts the channels that are new: on both sides of the old ones, behind or before them; or instead
# of zeros the old ones again.
NEW_CHANNELS = ("both", "behind", "before", "repeat")


def subsampled(x: Tensor, stride: int, how: str) -> Tensor:
    """x [n, C, H, W] as [n, C, ceil(H / stride), ceil(W / stride)], as a padded 3x3 convolution leaves it."""
    if stride == 1:
        return x
    if how == "stride-odd":
        # The last odd row of an odd height does not exist: the one before it stands in.
        return F.pad(x, (0, 1, 0, 1), mode="replicate")[:, :, 1::stride, 1::stride]
    if how == "mean":
        return F.avg_pool2d(x, stride, ceil_mode=True)
    if how == "mean-3":
        return F.avg_pool2d(x, 3, stride, padding=1)
    if how == "max":
        return F.max_pool2d(x, stride, ceil_mode=True)
    return x[:, :, ::stride, ::stride]


def widened(x: Tensor, new: int, where: str) -> Tensor:
    """x [n, C, H, W] with ``new`` further channels."""
    if new == 0:
        return x
    if where == "repeat":
        return x.repeat(1, -(-new // x.shape[1]) + 1, 1, 1)[:, : x.shape[1] + new]
    before = {"both": new // 2, "behind": 0, "before": new}[where]
    return F.pad(x, (0, 0, 0, 0, before, new - before))


# Names that mean another network: the bottleneck ResNet-50 has 6 n + 2 layers, too.
TAKEN = ("resnet50",)


@dataclass(frozen=True)
class CifarParts:
    """Parts that the weights do not determine; published files of equal names and shapes differ in each.

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
        check_forms(self, subsampling=SUBSAMPLINGS, new_channels=NEW_CHANNELS)
        check_forms(self, residual=("all", "identities", "none"), after_sum=("activated", "raw"))


class CifarBlock(nn.Module):
    """Two 3x3 convolutions; a shortcut of option ``a``, ``b`` or ``c``."""

    def __init__(
        self, in_planes: int, planes: int, stride: int, dropout: float, option: str, parts: "CifarParts"
    ):
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


class ResNetCifar(pixel_model.BlockNetwork):
    """6 n + 2 layers: a 3x3 stem and three stages of n blocks with 16, 32 and 64 channels.

    Args:
        classes: number of classes.
        in_channels: channels of the image.
        depth: 6 n + 2.
        dropout: probability after the second batch-norm of each block.
        option: of the shortcuts, ``a``, ``b`` or ``c``.
        parts: as in :class:`CifarParts`.
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
        self.parts = CifarParts(**parts)
        self.activation = activation_named(self.parts.activation)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        block = partial(CifarBlock, dropout=dropout, option=option, parts=self.parts)
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


def resnet_cifar_name(shapes: refusal.Shapes) -> str | None:
    """The name of the architecture that these shapes may be of; None where it is none of these."""
    blocks = sum(name.startswith("layer1.") and name.endswith(".conv1.weight") for name in shapes)
    if not blocks or shapes.get("conv1.weight", ())[:1] != (16,) or "layer4.0.conv1.weight" in shapes:
        return None
    projected = [name for name in shapes if name.endswith(".shortcut.0.weight")]
    option = "" if not projected else "-c" if "layer1.0.shortcut.0.weight" in projected else "-b"
    name = f"resnet{6 * blocks + 2}{option}"
    return None if name in TAKEN else name
