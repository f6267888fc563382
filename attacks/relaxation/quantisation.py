"""Steps and other number types: rounding, signs, casts.

Their own slope is zero or unknown to torch. Rounding goes on as the identity it approximates (arXiv
1802.00420, sec. 4.1); a sign, as tanh at the scale of its inputs.
"""

from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.record import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.shadow import Shadow, attach, live, shadow_of
from attacks.relaxation.surrogate_gradients import per_example, size, sloped, spread, straight_through

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
    return straight_through(call.real(), soft, mode.record.note("copysign", 1.0, scale))


def division(mode: Relaxing, call: Call) -> Any:
    """Division that rounds: the quotient's own gradient."""
    x, by = first(call), call.arg(1, "other")
    rounds = call.name in ("floor_divide", "__floordiv__") or call.kwargs.get("rounding_mode")
    if not rounds and live(x) and live(by) and x.shape == by.shape and _several(x):
        return _sign_by_hand(mode, call, x, by)
    if not rounds or not (live(x) or live(by)):
        return UNSEEN
    real = call.real()
    return straight_through(real, torch.true_divide(x, by).to(real.dtype), mode.record.note("floor_divide"))


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
    return attach(real, Shadow(straight_through(real.float(), soft, mode.record.note("shift"))))


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
        return straight_through(answer, shadow.value.to(answer.dtype))
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
