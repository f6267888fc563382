"""Steps: rounding, signs, whole-number division. Their own slope is zero wherever it exists.

Rounding goes on as the identity it approximates (arXiv 1802.00420, sec. 4.1); a sign, as tanh at the scale of
its inputs.
"""

from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.call import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.graft import graft, sloped
from attacks.relaxation.scale import size, spread
from attacks.relaxation.shadow import live


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


def division(mode: Relaxing, call: Call) -> Any:
    """Division that rounds: the quotient's own gradient."""
    x, by = first(call), call.arg(1, "other")
    rounds = call.name in ("floor_divide", "__floordiv__") or call.kwargs.get("rounding_mode")
    if not rounds or not (live(x) or live(by)):
        return UNSEEN
    real = call.real()
    return graft(real, torch.true_divide(x, by).to(real.dtype), mode.record.note("floor_divide"))


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


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "fix"), nearest),
    "fake_quantize_per_tensor_affine": nearest,
    "fake_quantize_per_channel_affine": nearest,
    **dict.fromkeys(("sign", "sgn", "heaviside"), sign),
    **dict.fromkeys(("div", "divide", "floor_divide", "__floordiv__"), division),
    **dict.fromkeys(("remainder", "fmod", "frac"), remainder),
}
