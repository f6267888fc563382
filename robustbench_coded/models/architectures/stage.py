"""The stages that residual networks are made of, and how many blocks a network's depth stands for."""

from collections.abc import Callable

from torch import nn

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
