"""Ripples: sines of so large numbers that their slope turns round within a hair's breadth of the input.

Over many periods a sine is flat, and that is what it goes on as; a sine of ordinary numbers keeps its slope.
"""

from typing import Any

from attacks.relaxation.call import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.graft import sloped
from attacks.relaxation.scale import size
from attacks.relaxation.shadow import live

# Radians. Networks with sines inside (arXiv 2006.09661) stay below 60, and a step of an attack moves them by
# less than a period.
RIPPLE = 100.0


def sine(mode: Relaxing, call: Call) -> Any:
    """sin and cos, by the mean size of an example's angles."""
    x = first(call)
    if not live(x):
        return UNSEEN
    scale = size(x)
    ripples = (scale > RIPPLE).to(x.dtype)
    if not bool(ripples.any()):
        return UNSEEN
    slope = x.detach().cos() if call.name == "sin" else -x.detach().sin()
    met = mode.record.note(call.name, ripples, scale)
    return sloped(call.real(), x, slope * (1 - ripples), met)


HANDLERS: dict[str, Handler] = {"sin": sine, "cos": sine}
