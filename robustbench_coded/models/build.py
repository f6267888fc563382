"""Networks by the name of their architecture: with fresh weights, or with places for stored ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.registry import find, inside


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Fills every parameter and buffer of ``network`` in place, in the order of its modules.

    Convolutions are normal with variance 2 / fan-out (He et al. 2015, arXiv 1502.01852), linear layers
    uniform within 1 / sqrt(fan-in), normalisation layers the identity, class tokens and positions normal of
    deviation 0.02. A layer of another kind with ``reset_parameters`` and buffers fills these itself.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels // module.groups * module.weight[0, 0].numel()
            module.weight.normal_(0, (2 / fan_out) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()
        else:
            for parameter in module.parameters(recurse=False):
                parameter.normal_(0, 0.02, generator=generator)
            reset = getattr(module, "reset_parameters", None)
            if callable(reset) and [*module.buffers(recurse=False)]:
                reset()


INITIALISED: tuple[Any, ...] = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
_ONE_AT_A_TIME = Lock()


@contextmanager
def _nothing_to_initialise() -> Iterator[None]:
    """Inside, layers on the meta device are not initialised, which takes half the time of making them.

    Layers elsewhere, as another thread may make them meanwhile, are.
    """

    def only_with_values(reset: Callable[[Any], None]) -> Callable[[Any], None]:
        def reset_parameters(module: nn.Module) -> None:
            if not any(tensor.is_meta for tensor in module.parameters(recurse=False)):
                reset(module)

        return reset_parameters

    with _ONE_AT_A_TIME:
        own = {kind: vars(kind).get("reset_parameters") for kind in INITIALISED}
        inherited = {kind: kind.reset_parameters for kind in INITIALISED}
        try:
            for kind, reset in inherited.items():
                setattr(kind, "reset_parameters", only_with_values(reset))  # noqa: B010
            yield
        finally:
            for kind, reset in own.items():
                if reset is None:
                    delattr(kind, "reset_parameters")
                else:
                    setattr(kind, "reset_parameters", reset)  # noqa: B010


def construct(
    arch: str,
    classes: int,
    in_channels: int = 3,
    image_size: int | None = None,
    *,
    dropout: float = 0.0,
) -> nn.Module:
    """The network without weights, on torch's meta device: for its names and shapes, or to load weights into.

    Args:
        arch: a name as in :data:`registry.MODELS`.
        classes: number of classes, at least 2.
        in_channels: channels of the image.
        image_size: height and width in pixels, for architectures made for one size; others take any.
        dropout: probability after the second batch-norm of each block.
    Raises:
        InputError: unknown name, or sizes that the architecture does not take.
    """
    architecture, parameters = find(arch)
    if classes < 2:
        raise InputError(f"{arch}: expected at least 2 classes, got {classes}")
    if architecture.takes_image_size:
        if image_size is None:
            raise InputError(f"{arch} is made for one image size; none was given")
        parameters["image_size"] = image_size
    if dropout and not architecture.takes_dropout:
        raise InputError(f"{arch}: dropout has no place in this architecture; leave it at 0")
    if dropout:
        parameters["dropout"] = dropout
    constructor = inside(architecture.constructor)
    with torch.device("meta"), _nothing_to_initialise():
        try:
            return constructor(classes=classes, in_channels=in_channels, **parameters)
        except ValueError as error:
            raise InputError(f"{arch}: {error}") from None


def build(
    arch: str,
    classes: int,
    in_channels: int = 3,
    image_size: int | None = None,
    *,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """A network with fresh weights, in train mode, float32 on the CPU; arguments as in :func:`construct`.

    Args:
        generator: CPU generator of the weights; None for one seeded with 0. Torch's global one is not read.
    """
    network = construct(arch, classes, in_channels, image_size, dropout=dropout).to_empty(device="cpu")
    initialise(network, generator if generator is not None else torch.Generator().manual_seed(0))
    return network.train()
