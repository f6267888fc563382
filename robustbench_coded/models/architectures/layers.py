"""Layers and blocks that several architectures share: activations by name, dropout, stages, stems."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Callable[[Tensor], Tensor]


# Functions that torch.fx traces and pickle sends.
ACTIVATIONS: dict[str, Activation] = {"relu": F.relu, "silu": F.silu}


class Dropout(nn.Module):
    """Inverted dropout; the identity in eval mode and at probability 0.

    The residual networks put it after the second batch-norm of each block (arXiv 2510.00253, appendix H.4).
    """

    def __init__(self, probability: float):
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"expected a dropout probability in [0, 1), got {probability}")
        self.probability = probability
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        if self.generator is None:
            raise ValueError("expected seed_dropout(network, generator) before training with dropout")
        mask = torch.rand(x.shape, generator=self.generator, device=self.generator.device) >= self.probability
        return x * mask.to(x.device, x.dtype) / (1 - self.probability)


def seed_dropout(network: nn.Module, generator: torch.Generator) -> None:
    """Makes every Dropout of ``network`` draw from ``generator`` from now on."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.generator = generator


Block = Callable[[int, int, int], nn.Module]  # channels in, channels, stride


def stage(
    block: Block, in_planes: int, planes: int, count: int, stride: int, expansion: int = 1
) -> nn.Sequential:
    """``count`` blocks, the first of which changes channels and size.

    Args:
        block: makes one.
        expansion: channels that come out of a block, as a multiple of ``planes``.
    """
    rest = (block(expansion * planes, planes, 1) for _ in range(count - 1))
    return nn.Sequential(block(in_planes, planes, stride), *rest)


def four_stages(block: Block, counts: Sequence[int], expansion: int = 1) -> list[nn.Sequential]:
    """Stages with 64, 128, 256 and 512 channels behind a stem of 64; all but the first halve the image."""
    widths = (64, *(expansion * planes for planes in (64, 128, 256)))
    sizes = zip(widths, (64, 128, 256, 512), counts, (1, 2, 2, 2), strict=True)
    return [stage(block, *each, expansion) for each in sizes]


def blocks_of_wide(depth: int, width: int) -> int:
    """Blocks in each of a wide residual network's three stages.

    Raises:
        ValueError: there is no such network.
    """
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"expected depth 6 n + 4, got {depth}")
    if width < 1:
        raise ValueError(f"expected width >= 1, got {width}")
    return (depth - 4) // 6


class PreActBlock(nn.Module):
    """Batch-norm and activation before each 3x3 convolution; a 1x1 shortcut where the shape changes.

    Args:
        in_planes, planes, stride: channels that come in and go out, and the stride of the first convolution.
        dropout: probability after the second batch-norm.
        raw: whether the shortcut's convolution sees the block's input itself, not what is activated.
        activation: a name of :data:`ACTIVATIONS`.
    """

    def __init__(
        self,
        in_planes: int,
        planes: int,
        stride: int,
        dropout: float,
        raw: bool = False,
        activation: str = "relu",
    ):
        super().__init__()
        self.raw = raw
        self.activation = ACTIVATIONS[activation]
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.dropout = Dropout(dropout)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False))

    def _activated(self, x: Tensor, place: int) -> Tensor:
        """``x`` behind the first or second activation."""
        return self.activation(x)

    def _projection(self) -> nn.Module | None:
        return self.shortcut

    def forward(self, x: Tensor) -> Tensor:
        active = self._activated(self.bn1(x), 0)
        projection = self._projection()
        shortcut = x if projection is None else projection(x if self.raw else active)
        out = self._activated(self.dropout(self.bn2(self.conv1(active))), 1)
        return self.conv2(out) + shortcut
