"""Networks by the name of their architecture."""

import inspect

import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.registry import find, inside


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
    constructor = inside(architecture.constructor)
    if dropout and "dropout" not in inspect.signature(constructor).parameters:
        raise InputError(f"{arch}: dropout has no place in this architecture; leave it at 0")
    if dropout:
        parameters["dropout"] = dropout
    with torch.device("meta"):
        try:
            return constructor(classes=classes, in_channels=in_channels, **parameters)
        except ValueError as error:
            raise InputError(f"{arch}: {error}") from None
