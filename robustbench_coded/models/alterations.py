"""Settings of layers that their weights do not show, and that no architecture here has as a variant.

They are of use where much is left of what batch-norms remember: in the user's own code such a setting may be
another one than in training, and a file may come from a network that has it.
"""

import copy
from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor, nn

from robustbench_coded.models.fingerprint import fingerprint

PADDINGS = ("zeros", "reflect", "replicate", "circular")
NEARER = 3.0  # so many times nearer to what is remembered, the setting is another one than in training
IMAGES = 64


def alterations(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(what is otherwise, the network so) for every such setting; weights are shared with ``network``."""
    padded = {
        module.padding_mode
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str) and any(module.padding)
    }
    for mode in PADDINGS if padded else ():
        if padded != {mode}:
            yield f"padding_mode={mode!r} in its convolutions", _altered(network, partial(_pad, mode=mode))
    pools = [module for module in network.modules() if isinstance(module, nn.AvgPool2d)]
    if any(module.padding not in (0, (0, 0)) for module in pools):
        include = not pools[0].count_include_pad
        altered = _altered(network, partial(_count, include=include))
        yield f"count_include_pad={include} in its pooling", altered


def nearer_setting(
    network: nn.Module, front: Callable[[Tensor], Tensor], kinds: dict[str, Tensor], score: float
) -> tuple[str, ...]:
    """That another setting is far nearer to what is remembered: a clause that ends in what to try, or none.

    Args:
        network: as it is evaluated, with batch-norms.
        front: pixels to what the network takes.
        kinds: images [n, C, H, W] of each kind of training that comes into question.
        score: of the network as it is, at its best, beside what is by chance.
    """
    found = []
    for said, other in alterations(network):
        for images in kinds.values():
            try:
                seen = fingerprint(partial(_behind, front, other), other, images[:IMAGES])
            except RuntimeError:  # a setting that images of this size do not allow
                continue
            if seen is not None:
                found.append((seen.excess, said))
    if not found or min(found)[0] * NEARER >= score:
        return ()
    best, said = min(found)
    return (
        f"with {said} activations would differ from the stored statistics of its batch-norms by {best:.2g} "
        f"instead of {score:.2g} (compared figures): that setting differs from training; try "
        "--arch package.module:function with it",
    )


def _altered(network: nn.Module, change: Callable[[nn.Module], None]) -> nn.Module:
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    altered = copy.deepcopy(network, shared)
    for module in altered.modules():
        change(module)
    return altered


def _behind(front: Callable[[Tensor], Tensor], network: nn.Module, x: Tensor) -> Tensor:
    return network(front(x))


def _pad(module: nn.Module, mode: str) -> None:
    if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str):
        setattr(module, "padding_mode", mode)  # noqa: B010
        # What padding other than by zeros reads.
        module._reversed_padding_repeated_twice = [side for side in reversed(module.padding) for _ in (0, 1)]


def _count(module: nn.Module, include: bool) -> None:
    if isinstance(module, nn.AvgPool2d):
        module.count_include_pad = include
