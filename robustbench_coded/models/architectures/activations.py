"""Activation functions by name: no file of weights says which of them its network has."""

import re
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Callable[[Tensor], Tensor]


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


# Functions that torch.fx traces and pickle sends. CELU is ELU at alpha = 1, swish is silu.
ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "leaky-relu": partial(F.leaky_relu, negative_slope=0.01),
    "leaky-relu-0.1": partial(F.leaky_relu, negative_slope=0.1),
    "leaky-relu-0.2": partial(F.leaky_relu, negative_slope=0.2),
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu-tanh": partial(F.gelu, approximate="tanh"),
    "quick-gelu": _quick_gelu,
    "softplus": F.softplus,
    "softplus-10": partial(F.softplus, beta=10.0),
    "elu": F.elu,
    "selu": F.selu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "relu6": F.relu6,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "square": torch.square,
}


def activation_named(name: str) -> Activation:
    """The function of that name; ``leaky-relu-SLOPE`` takes any slope below 1.

    Raises:
        ValueError: nothing has that name.
    """
    if slope := re.fullmatch(r"leaky-relu-(0\.\d{1,6})", name):
        return partial(F.leaky_relu, negative_slope=float(slope[1]))
    if name not in ACTIVATIONS:
        raise ValueError(f"expected an activation of {', '.join(ACTIVATIONS)}, got {name}")
    return ACTIVATIONS[name]
