"""Steps and other number types: rounding, signs, casts.

Their own slope is zero or unknown to torch. Rounding goes on as the identity it approximates (arXiv
1802.00420, sec. 4.1); a sign, as tanh at the scale of its inputs.
"""

from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.record import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.shadow import Shadow, attach, live, shadow_of
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
    met = mode.record.note(call.name, 1.0, scale)
    height = 0.5 if call.name == "heaviside" else 1.0
    slope = height * (1 - torch.tanh(x.detach() / scale) ** 2) / scale
    return sloped(call.real(), x, slope.to(x.dtype), met)


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


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "fix"), nearest),
    "fake_quantize_per_tensor_affine": nearest,
    "fake_quantize_per_channel_affine": nearest,
    **dict.fromkeys(("sign", "sgn", "heaviside"), sign),
    **dict.fromkeys((*_RIGHT, "__lshift__", "bitwise_left_shift"), shifted),
    **dict.fromkeys(("to", "type", "type_as", "long", "int", "short", "char", "byte", "bool"), cast),
    **dict.fromkeys(("half", "float", "double", "bfloat16", "dequantize", "int_repr", "view"), cast),
}
