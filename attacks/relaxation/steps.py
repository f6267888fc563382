"""Steps: rounding, signs and other number types; comparisons, truth values, and the choices that they make.

Their own slope is zero or unknown to torch. Rounding goes on as the identity it approximates (arXiv
1802.00420, sec. 4.1); a sign, as tanh at the scale of its inputs; ``a > b`` is the sigmoid of (a - b) / s in
the backward, s being the mean |a - b| of the example.
"""

from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.record import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.shadow import Shadow, attach, differentiable, follows, graph_of, live, shadow_of
from attacks.relaxation.surrogate_gradients import size, sloped, straight_through


def nearest(mode: Relaxing, call: Call) -> Any:
    """round, floor, ceil, trunc and the simulated quantisers: a step as wide as it is high."""
    x = first(call)
    if not live(x):
        return UNSEEN
    return sloped(call.real(), x, 1.0, mode.record.note(call.name))


def sign(mode: Relaxing, call: Call) -> Any:
    """sign and heaviside."""
    x = first(call)
    if not live(x):
        return UNSEEN
    scale = size(x)
    op = mode.record.note(call.name, 1.0, scale)
    height = 0.5 if call.name == "heaviside" else 1.0
    slope = height * (1 - torch.tanh(x.detach() / scale) ** 2) / scale
    return sloped(call.real(), x, slope.to(x.dtype), op)


def cast(mode: Relaxing, call: Call) -> Any:
    """To another type; what an integer type cuts off is taken for noise."""
    x = first(call)
    shadow = shadow_of(x)
    if shadow is None and not live(x):
        return UNSEEN
    answer = call.run()
    if not isinstance(answer, Tensor) or answer is x or answer.shape != x.shape:
        return answer
    if answer.is_floating_point() and not answer.is_quantized and answer.element_size() > 1:
        if shadow is None or answer.requires_grad:
            return answer  # between floating types torch has a gradient
        return straight_through(answer, shadow.value.to(answer.dtype))
    answer = answer.detach()  # of eight bits: a gradient that is as short is of no use
    if shadow is not None:
        return attach(answer, shadow)
    kind = str(answer.dtype).removeprefix("torch.")
    op = mode.record.note(f"cast to {kind}")
    return attach(answer, Shadow(sloped(x.detach().float(), x.float(), 1.0, op)))


_LARGER = ("gt", "ge", "greater", "greater_equal", "__gt__", "__ge__")
_SMALLER = ("lt", "le", "less", "less_equal", "__lt__", "__le__")


def order(mode: Relaxing, call: Call) -> Any:
    """Larger or smaller."""
    a, b = call.arg(0, "input"), call.arg(1, "other")
    if not (follows(a) or follows(b)):
        return UNSEEN
    gap = _graph(a) - _graph(b)
    gap, real = -gap if call.name in _SMALLER else gap, call.real()
    if not live(gap) or gap.shape != real.shape:
        return real
    scale = size(gap)
    s = torch.sigmoid(gap.detach() / scale)
    op = mode.record.note("comparison", 1.0, scale)
    return attach(real, Shadow(sloped(real.float(), gap.float(), s * (1 - s) / scale, op)))


def where(mode: Relaxing, call: Call) -> Any:
    """where(condition, a, b): beside the gradients of a and b that of the condition, times a - b."""
    condition = call.arg(0, "condition")
    if len(call.args) + len(call.kwargs) < 3:
        return UNSEEN
    a, b = call.arg(1, "input"), call.arg(2, "other")
    if call.func is not torch.where and call.args and not _is_truth(condition):
        condition, a, b = call.arg(1, "condition"), call.arg(0, "input"), call.arg(2, "other")
    shadow = shadow_of(condition)
    if shadow is None and shadow_of(a) is None and shadow_of(b) is None:
        return UNSEEN
    real = call.real()
    a, b = _graph(a), _graph(b)
    soft = torch.where(condition, a, b)
    return settled(real, mixed(soft, None if shadow is None else shadow.value, a, b), mode, "where")


def mixed(soft: Tensor, mask: Tensor | None, a: Any, b: Any) -> Tensor:
    """``soft``, which is a where ``mask`` and b elsewhere, with the gradient in the mask as well."""
    if mask is None:
        return soft
    with torch.no_grad():
        gap = torch.as_tensor(a - b)
        gap = torch.where(torch.isfinite(gap), gap, 0.0)  # a masked score of -inf has no size to go by
    return soft + (mask - mask.detach()) * gap


def settled(real: Tensor, soft: Tensor, mode: Relaxing, name: str) -> Tensor:
    """``real`` with the gradient of ``soft``: straight through on floating numbers, as a shadow on others."""
    if not soft.requires_grad or soft.shape != real.shape:
        return real
    if differentiable(real):
        return straight_through(real, soft.to(real.dtype), mode.record.note(name))
    return attach(real, Shadow(straight_through(real.float(), soft.float())))


def both(mode: Relaxing, call: Call) -> Any:
    """and, or, xor, not of truth values, as their probabilities would have it."""
    a, b = call.arg(0, "input"), call.arg(1, "other")
    if shadow_of(a) is None and shadow_of(b) is None:
        return UNSEEN
    real = call.real()
    if real.dtype != torch.bool:
        return UNSEEN  # bits of numbers
    p, q = _graph(a), _graph(b)
    if call.name in ("logical_not", "bitwise_not", "__invert__"):
        soft = 1 - p
    elif call.name in ("logical_and", "bitwise_and", "__and__", "__rand__", "__iand__"):
        soft = p * q
    elif call.name in ("logical_or", "bitwise_or", "__or__", "__ror__", "__ior__"):
        soft = p + q - p * q
    else:
        soft = p + q - 2 * p * q
    return settled(real, soft, mode, call.name)


def some(mode: Relaxing, call: Call) -> Any:
    """any and all: the largest and the smallest of them."""
    x = call.arg(0, "input")
    shadow = shadow_of(x)
    if shadow is None:
        return UNSEEN
    reduce = torch.amax if call.name == "any" else torch.amin
    soft = reduce(shadow.value, *call.args[1:], **call.kwargs)
    return settled(call.real(), soft, mode, call.name)


def _graph(value: Any) -> Any:
    value = graph_of(value)
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bool else value


def _is_truth(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bool


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "fix"), nearest),
    "fake_quantize_per_tensor_affine": nearest,
    "fake_quantize_per_channel_affine": nearest,
    **dict.fromkeys(("sign", "sgn", "heaviside"), sign),
    **dict.fromkeys(("to", "type", "type_as", "long", "int", "short", "char", "byte", "bool"), cast),
    **dict.fromkeys(("half", "float", "double", "bfloat16", "dequantize", "int_repr", "view"), cast),
    **dict.fromkeys((*_LARGER, *_SMALLER), order),
    **dict.fromkeys(("logical_and", "logical_or", "logical_not", "logical_xor"), both),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor"), both),
    **dict.fromkeys(("__and__", "__or__", "__xor__", "__invert__", "__rand__", "__ror__"), both),
    **dict.fromkeys(("any", "all"), some),
    "where": where,
}
