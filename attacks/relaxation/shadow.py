"""Shadows: what gradient an integer or a truth value has, which autograd itself knows none for.

A shadow hangs on the tensor that it belongs to and follows it through the operators of the defence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ATTRIBUTE = "_csrobust_shadow"


@dataclass(frozen=True)
class Shadow:
    """Attributes:
    value: the same numbers as float32, with a graph behind them.
    choice: of a tensor of indices, how likely each of the n things to choose from is, ``[*shape, n]``, with a
        graph; None for other integers.
    members: of the indices of the k largest, how likely each element is among them, shaped like the elements.
    order_of: of the indices that sort something, that something, the dimension and whether the largest come
        first.
    """

    value: Tensor
    choice: Tensor | None = None
    members: Tensor | None = None
    order_of: tuple[Tensor, int, bool] | None = None


def attach(tensor: Tensor, shadow: Shadow) -> Tensor:
    """Hangs ``shadow`` on ``tensor`` and returns it."""
    setattr(tensor, _ATTRIBUTE, shadow)
    return tensor


def shadow_of(value: Any) -> Shadow | None:
    """The shadow of a tensor, if it has one; None for anything else."""
    return getattr(value, _ATTRIBUTE, None) if isinstance(value, Tensor) else None


def live(value: Any) -> bool:
    """Whether it is a tensor of floating numbers with a gradient to keep."""
    return (
        isinstance(value, Tensor)
        and value.requires_grad
        and value.is_floating_point()
        and torch.is_grad_enabled()
    )


def differentiable(value: Tensor) -> bool:
    """Whether autograd keeps gradients of numbers of this kind: floating or complex ones."""
    return value.is_floating_point() or value.is_complex()


def graph_of(value: Any) -> Any:
    """What to differentiate in the place of ``value``: its shadow's numbers, or itself."""
    shadow = shadow_of(value)
    return value if shadow is None else shadow.value


def follows(value: Any) -> bool:
    """Whether it has a gradient of its own or a shadow."""
    return live(value) or shadow_of(value) is not None


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors among arguments, those in lists and tuples included."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def replaced(value: Any, by: Any) -> Any:
    """Arguments with every tensor exchanged by the function ``by``, in lists and tuples, too."""
    if isinstance(value, Tensor):
        return by(value)
    if type(value) in (list, tuple):
        return type(value)(replaced(part, by) for part in value)
    return value
