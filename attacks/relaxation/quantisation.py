"""Steps and other number types: rounding, signs, casts, quantised layers, operators of ``torch.library``.

Their own slope is zero or unknown to torch. Rounding goes on as the identity it approximates (arXiv
1802.00420, sec. 4.1); a sign, as tanh at the scale of its inputs; a quantised layer, as the layer with its
weights as numbers; an operator of ``torch.library`` has the gradient of its own Python code, relaxed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.nn import functional

from attacks.relaxation.record import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.shadow import Shadow, attach, follows, graph_of, live, shadow_of, tensors_in
from attacks.relaxation.surrogate_gradients import graft, per_example, size, sloped, spread

NEXT_TO_ALL, MOST = 1e-3, 0.5  # of the largest quotient; of an example's elements
FEWEST = 4  # elements


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
    met = mode.record.note(call.name, 1.0, scale)
    height = 0.5 if call.name == "heaviside" else 1.0
    slope = height * (1 - torch.tanh(x.detach() / scale) ** 2) / scale
    return sloped(call.real(), x, slope.to(x.dtype), met)


def copied_sign(mode: Relaxing, call: Call) -> Any:
    """copysign: the size of one number and the sign of the other."""
    x, other = first(call), call.arg(1, "other")
    if not (live(x) or live(other)) or not isinstance(other, Tensor):
        return UNSEEN
    scale = size(other)
    soft = x.abs() * torch.tanh(other / scale)
    return graft(call.real(), soft, mode.record.note("copysign", 1.0, scale))


def division(mode: Relaxing, call: Call) -> Any:
    """Division that rounds: the quotient's own gradient."""
    x, by = first(call), call.arg(1, "other")
    rounds = call.name in ("floor_divide", "__floordiv__") or call.kwargs.get("rounding_mode")
    if not rounds and live(x) and live(by) and x.shape == by.shape and _several(x):
        return _sign_by_hand(mode, call, x, by)
    if not rounds or not (live(x) or live(by)):
        return UNSEEN
    real = call.real()
    return graft(real, torch.true_divide(x, by).to(real.dtype), mode.record.note("floor_divide"))


def _several(x: Tensor) -> bool:
    """Whether an example has numbers enough to tell that their quotients are all alike."""
    return x.numel() >= FEWEST * (len(x) if x.ndim > 1 else 1) > 0


def _sign_by_hand(mode: Relaxing, call: Call, x: Tensor, by: Tensor) -> Any:
    """``x / (|x| + tiny)``: a quotient that is as large almost everywhere, or as small, is a sign."""
    real = call.real()
    height = real.abs().flatten(1).amax(1).view(-1, *[1] * (x.ndim - 1)) if x.ndim > 1 else real.abs().amax()
    share = per_example((real.abs() >= height * (1 - NEXT_TO_ALL)).to(real.dtype))
    if not bool((share > MOST).any()):
        return UNSEEN
    scale = size(x)
    slope = height * (1 - torch.tanh(x.detach() / scale) ** 2) / scale
    return sloped(real, x, slope.to(x.dtype), mode.record.note("sign", share, scale))


def shifted(mode: Relaxing, call: Call) -> Any:
    """Bits of an integer moved to the right or the left: it is divided or multiplied by a power of two."""
    x, by = first(call), call.arg(1, "other")
    shadow = shadow_of(x)
    if shadow is None or shadow_of(by) is not None:
        return UNSEEN
    real = call.real()
    power = 2.0 ** (-by if call.name in _RIGHT else by)
    soft = (shadow.value * power).expand(real.shape)
    return attach(real, Shadow(graft(real.float(), soft, mode.record.note("shift"))))


def remainder(mode: Relaxing, call: Call) -> Any:
    """What is left of a division has slope 1 and jumps; over several periods its smooth slope is 0.

    So ``x - x % step`` is what it is elsewhere called: rounding.
    """
    x, by = first(call), call.arg(1, "other", 1.0)
    if not live(x) or (isinstance(by, Tensor) and by.requires_grad):
        return UNSEEN
    period = by.detach().abs() if isinstance(by, Tensor) else abs(float(by))
    over_periods = (spread(x) > period / 4).to(x.dtype)
    if not bool(over_periods.any()):
        return UNSEEN
    return sloped(call.real(), x, 1 - over_periods, mode.record.note(call.name, over_periods))


_RIGHT = ("__rshift__", "bitwise_right_shift")


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
        return graft(answer, shadow.value.to(answer.dtype))
    answer = answer.detach()  # of eight bits: a gradient that is as short is of no use
    if shadow is not None:
        kept = Shadow(shadow.value, shadow.choice, shadow.members, shadow.order_of)
        return attach(answer, kept)
    kind = str(answer.dtype).removeprefix("torch.")
    met = mode.record.note(f"cast to {kind}")
    return attach(answer, Shadow(sloped(x.detach().float(), x.float(), 1.0, met)))


def quantised(mode: Relaxing, call: Call) -> Any:
    """quantize_per_tensor and per_channel; dequantize gives the gradient back."""
    x = first(call)
    if not live(x):
        return UNSEEN
    answer = call.real()
    met = mode.record.note("quantize")
    return attach(answer, Shadow(sloped(x.detach().float(), x.float(), 1.0, met)))


def foreign(mode: Relaxing, call: Call, again: Callable[[], Any]) -> Any:
    """The answer of an operator of ``torch.ops`` that is none of torch's own.

    Args:
        mode: asks.
        call: the call.
        again: a context in which calls are relaxed, for code that is run in the operator's place.
    """
    packet = call.func.overloadpacket if isinstance(call.func, torch._ops.OpOverload) else call.func
    if not isinstance(packet, torch._ops.OpOverloadPacket) or not any(map(follows, tensors_in(call.args))):
        return UNSEEN
    space, _, name = packet._qualified_op_name.partition("::")
    plain = name.removesuffix("_dynamic").removesuffix("_relu")
    if space == "quantized" and plain in _LAYERS:
        return _layer(mode, call, name, _LAYERS[plain])
    if space in ("aten", "prim", "prims", "quantized", "torchvision"):
        return UNSEEN
    defined = OPDEFS.get(f"{space}::{name}")
    real = call.real()
    if not isinstance(real, Tensor) or defined is None:
        return UNSEEN
    try:
        with again():
            soft = defined._init_fn(*call.args, **call.kwargs)
    except Exception:  # user code, run as it was not meant to be
        return UNSEEN
    if not isinstance(soft, Tensor) or soft.shape != real.shape or not follows(soft):
        return UNSEEN
    met = mode.record.note(name)
    number = graph_of(soft)
    if real.is_floating_point():
        return graft(real, number.to(real.dtype), met)
    shadow = shadow_of(soft)
    choice = None if shadow is None else shadow.choice
    return attach(real, Shadow(graft(real.float(), number.float(), met), choice))


def _layer(mode: Relaxing, call: Call, name: str, layer: Callable[[Call], Tensor]) -> Any:
    real = call.real()
    soft = layer(call)
    if "relu" in name:
        soft = functional.relu(soft)
    met = mode.record.note(f"quantised {name}")
    if real.is_quantized:
        return attach(real, Shadow(graft(real.dequantize(), soft, met)))
    return graft(real, soft.to(real.dtype), met)


def _linear(call: Call) -> Tensor:
    weight, bias = call.args[1].unpack()
    return functional.linear(_number(call.args[0]), weight.dequantize(), bias)


def _conv2d(call: Call) -> Tensor:
    packed = call.args[1]
    weight, bias = packed.unpack()
    how = (packed.stride(), packed.padding(), packed.dilation(), packed.groups())
    return functional.conv2d(_number(call.args[0]), weight.dequantize(), bias, *map(_plain, how))


def _add(call: Call) -> Tensor:
    return _number(call.args[0]) + _number(call.args[1])


def _mul(call: Call) -> Tensor:
    return _number(call.args[0]) * _number(call.args[1])


def _cat(call: Call) -> Tensor:
    return torch.cat([_number(x) for x in call.args[0]], call.args[1])


def _number(x: Any) -> Any:
    x = graph_of(x)
    return x.dequantize() if isinstance(x, Tensor) and x.is_quantized else x


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else tuple(value)


_LAYERS: dict[str, Callable[[Call], Tensor]] = {
    "linear": _linear,
    "conv2d": _conv2d,
    "add": _add,
    "mul": _mul,
    "cat": _cat,
}


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "fix"), nearest),
    "fake_quantize_per_tensor_affine": nearest,
    "fake_quantize_per_channel_affine": nearest,
    **dict.fromkeys(("sign", "sgn", "heaviside"), sign),
    "copysign": copied_sign,
    **dict.fromkeys(
        ("div", "divide", "true_divide", "__truediv__", "floor_divide", "__floordiv__"), division
    ),
    **dict.fromkeys((*_RIGHT, "__lshift__", "bitwise_left_shift"), shifted),
    **dict.fromkeys(("remainder", "fmod", "frac"), remainder),
    **dict.fromkeys(("to", "type", "type_as", "long", "int", "short", "char", "byte", "bool"), cast),
    **dict.fromkeys(("half", "float", "double", "bfloat16", "dequantize", "int_repr", "view"), cast),
    **dict.fromkeys(("quantize_per_tensor", "quantize_per_channel"), quantised),
    "quantize_per_tensor_dynamic": quantised,
}
