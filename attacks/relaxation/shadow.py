"""Shadows: what gradient an integer or a truth value has, which autograd itself knows none for.

A shadow hangs on the tensor that it belongs to. Any operator whose inputs have one is differentiated on the
shadows' numbers, so that it follows the tensor through the operators of the defence.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attacks.gradients import raise_machine_fault
from attacks.relaxation.record import Call
from attacks.relaxation.surrogate_gradients import straight_through

_ATTRIBUTE = "_csrobust_shadow"


@dataclass(frozen=True)
class Shadow:
    """Attributes:
    value: the same numbers as float32, with a graph behind them.
    choice: of a tensor of indices, how likely each of the n things to choose from is, ``[*shape, n]``, with a
        graph; None for other integers.
    """

    value: Tensor
    choice: Tensor | None = None


def attach(tensor: Tensor, shadow: Shadow) -> Tensor:
    """Hangs ``shadow`` on ``tensor`` and returns it."""
    setattr(tensor, _ATTRIBUTE, shadow)
    return tensor


def shadow_of(value: Any) -> Shadow | None:
    """The shadow of a tensor, if it has one; None for anything else."""
    return getattr(value, _ATTRIBUTE, None) if isinstance(value, Tensor) else None


def live(value: Any) -> bool:
    """True if it is a tensor of floating numbers with a gradient to keep."""
    return (
        isinstance(value, Tensor)
        and value.requires_grad
        and value.is_floating_point()
        and torch.is_grad_enabled()
    )


def differentiable(value: Tensor) -> bool:
    """True if autograd keeps gradients of numbers of this kind: floating or complex ones."""
    return value.is_floating_point() or value.is_complex()


def graph_of(value: Any) -> Any:
    """The tensor to differentiate in the place of ``value``: its shadow's numbers, or itself."""
    shadow = shadow_of(value)
    return value if shadow is None else shadow.value


def follows(value: Any) -> bool:
    """True if it has a gradient of its own or a shadow."""
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


Answered = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

# A second call would draw other random numbers.
_DRAWS = ("rand", "dropout", "bernoulli", "multinomial", "normal", "exponential", "uniform", "poisson")


def follow(call: Call, in_place: bool, answered: Answered) -> Any:
    """The answer to a call with a shadow among its arguments, with a gradient or a shadow of its own.

    ``answered`` answers a function of floating numbers as the mode does: what rounds integers, or compares
    them, is relaxed on the shadows' numbers.
    """
    if in_place or call.name.startswith("__i"):
        return _changed(call, answered)
    real = call.run()
    if not torch.is_grad_enabled() or any(part in call.name for part in _DRAWS):
        return real
    return _joined(real, _soft(call, answered))


def _soft(call: Call, answered: Answered) -> Any:
    """The answer on the shadows' numbers; None where the operator takes integers alone."""
    kwargs = {key: replaced(value, _number) for key, value in call.kwargs.items()}
    if isinstance(kwargs.get("dtype"), torch.dtype) and not kwargs["dtype"].is_floating_point:
        kwargs.pop("dtype")
    try:
        return answered(call.func, replaced(call.args, _number), kwargs)
    except (RuntimeError, TypeError, IndexError) as error:
        raise_machine_fault(error)
        return None


def _number(x: Tensor) -> Tensor:
    return graph_of(x)


def _joined(real: Any, soft: Any) -> Any:
    if isinstance(real, tuple | list):
        parts = soft if isinstance(soft, tuple | list) and len(soft) == len(real) else [None] * len(real)
        joined = [_joined(own, other) for own, other in zip(real, parts)]
        return type(real)(joined) if type(real) in (tuple, list) else real
    if not isinstance(real, Tensor):
        return real
    if not isinstance(soft, Tensor) or soft.shape != real.shape:
        return real
    if not soft.requires_grad or not differentiable(soft):
        return real
    if differentiable(real) and not real.is_quantized:
        return straight_through(real, soft.to(real.dtype))
    # Numbers that are no longer those of the integer (its bits, say) have its gradient still.
    return attach(real, Shadow(soft.float()))


def _changed(call: Call, answered: Answered) -> Any:
    """In-place variants: the answer of the other variant is written into the first argument."""
    name = call.name.removeprefix("__i").removesuffix("__") if call.name.startswith("__i") else call.name[:-1]
    names = {"and": "__and__", "or": "__or__", "xor": "__xor__"}
    function = getattr(torch.Tensor, names.get(name, name), None)
    x = call.args[0]
    if name == "copy" and follows(call.args[1]):
        return written(x, call.args[1])
    if function is None or name in ("set", "resize", "requires_grad"):
        return call.run()
    return written(x, follow(Call(function, name, call.args, call.kwargs), False, answered))


def written(x: Tensor, answer: Tensor) -> Tensor:
    """``x`` after ``answer`` was written into it, its gradient or its shadow included."""
    shadow = shadow_of(answer)
    if not differentiable(x):
        with torch.no_grad():
            x.copy_(answer)
        if shadow is not None or answer.requires_grad:
            number = answer if shadow is None else shadow.value
            attach(x, Shadow(straight_through(x.detach().float(), number.float().expand(x.shape))))
        return x
    if shadow is not None:
        answer = straight_through(answer.to(x.dtype), shadow.value.to(x.dtype))
    return x.copy_(answer)
