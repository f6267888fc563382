"""Cuts at a bound: clamp and its kin. Inside the range the slope is torch's; outside it is not zero.

A number on the bound is inside. Some versions of torch give it no slope, so that a clamp after a rounding to
0 or 1 cuts everything.

An element at distance d outside a range of width w has the slope that the cut has over the interval that
reaches back into the range: min(w, s) / (2 (d + s)), s being the scale of its example. Those far out get a
small one, as a cut after a large factor needs it.
"""

from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.call import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.graft import sloped
from attacks.relaxation.scale import per_example, spread
from attacks.relaxation.shadow import live

# A cut on one side is what a ReLU is. It hides something only where it leaves next to nothing.
NEXT_TO_ALL = 0.99
MOST = 0.5
FAR = 10.0  # inputs this many times as far apart as the range is wide saturate even a ReLU6

_ONE_SIDED = "_csrobust_cut"  # what a cut with one bound was applied to, and the bounds


def between(mode: Relaxing, call: Call) -> Any:
    """clamp, clip and hardtanh; one bound may be missing."""
    low, high = call.arg(1, "min"), call.arg(2, "max")
    if call.name == "hardtanh":
        low, high = call.arg(1, "min_val", -1.0), call.arg(2, "max_val", 1.0)
    elif call.name == "relu6":
        low, high = 0.0, 6.0
    elif call.name == "clamp_min":
        low, high = call.arg(1, "min"), None
    elif call.name == "clamp_max":
        low, high = None, call.arg(1, "max")
    return _bounded(mode, call, first(call), low, high)


def pairwise(mode: Relaxing, call: Call) -> Any:
    """minimum and maximum of the input and constants."""
    x, other = first(call), call.arg(1, "other")
    if not isinstance(other, Tensor) or other.requires_grad:
        return UNSEEN
    upper = call.name in ("minimum", "fmin", "min")
    return _bounded(mode, call, x, None if upper else other, other if upper else None)


def hardsigmoid(mode: Relaxing, call: Call) -> Any:
    """clamp(x / 6 + 1 / 2, 0, 1)."""
    return _cut(mode, call, first(call), -3.0, 3.0, 1 / 6)


def shrink(mode: Relaxing, call: Call) -> Any:
    """hardshrink, softshrink and threshold: what is set to a constant keeps the slope of what is not."""
    x = first(call)
    if not live(x) or x.shape != (real := call.real()).shape:
        return UNSEEN
    bound = call.arg(1, "threshold", call.arg(1, "lambd", 0.5))
    gone = (x <= bound) if call.name == "threshold" else (x.abs() <= bound)
    share = per_example(gone.float())
    if not bool((share > NEXT_TO_ALL).any()) and call.name == "threshold":
        return UNSEEN
    return sloped(real, x, 1.0, mode.record.note(call.name, share))


def _bounded(mode: Relaxing, call: Call, x: Any, low: Any, high: Any) -> Any:
    """One bound after the other makes a range: the second cut is that of the first one's input."""
    before, its_low, its_high = getattr(x, _ONE_SIDED, (None, None, None))
    if before is not None and (low is None) == (its_high is None) and (high is None) == (its_low is None):
        both = (its_low if low is None else low, its_high if high is None else high)
        return _cut(mode, call, before, *both)
    answer = _cut(mode, call, x, low, high)
    if live(x) and (low is None) != (high is None):
        answer = call.run() if answer is UNSEEN else answer
        setattr(answer, _ONE_SIDED, (x, low, high))
    return answer


def _cut(mode: Relaxing, call: Call, x: Any, low: Any, high: Any, slope: float = 1.0) -> Any:
    bounds = [bound for bound in (low, high) if bound is not None]
    if not live(x) or not bounds or any(isinstance(b, Tensor) and b.requires_grad for b in bounds):
        return UNSEEN
    with torch.no_grad():
        zero = torch.zeros_like(x)
        below = zero if low is None else (low - x).clamp_min(0)
        above = zero if high is None else (x - high).clamp_min(0)
        distance = below + above
        outside, on_bound = distance > 0, _on_bound(x, low, high)
        if not bool((outside | on_bound).any()):
            return UNSEEN
        share = per_example(outside.float())
        scale = spread(x).to(x.dtype)
        if not _cuts(low, high, scale):
            # The half of a ReLU that is off stays off, and the few that a ReLU6 cuts stay cut.
            share = share if len(bounds) == 1 else per_example((above > 0).float())
            outside = outside & (share > NEXT_TO_ALL) if len(bounds) == 1 else (above > 0) & (share > MOST)
            if not bool(outside.any()):
                return UNSEEN
        else:
            touched = per_example(on_bound.float())
            share = torch.where(touched > NEXT_TO_ALL, touched, share)
        width = scale if len(bounds) == 1 else torch.minimum(scale, (high - low) * torch.ones_like(scale))
        inside = (distance == 0).to(x.dtype)
        slopes = slope * torch.where(outside, width / (2 * (distance + scale)), inside)
        real = call.func(*call.args, **call.kwargs)
        if real.shape != x.shape:
            return UNSEEN
        met = mode.record.note(call.name, share)
    return sloped(real, x, slopes, met)


def _on_bound(x: Tensor, low: Any, high: Any) -> Tensor:
    none = torch.zeros_like(x, dtype=torch.bool)
    return (none if low is None else x == low) | (none if high is None else x == high)


def _cuts(low: Any, high: Any, scale: Tensor) -> bool:
    """Whether it is a range, and not a ReLU, or a ReLU6 of numbers that it is made for."""
    if low is None or high is None:
        return False
    if bool((scale > FAR * (high - low)).any()):
        return True
    return not (isinstance(low, int | float) and low == 0 and isinstance(high, int | float) and high > 1)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max", "hardtanh", "relu6"), between),
    **dict.fromkeys(("minimum", "maximum", "fmin", "fmax"), pairwise),
    "hardsigmoid": hardsigmoid,
    **dict.fromkeys(("hardshrink", "softshrink", "threshold"), shrink),
}
