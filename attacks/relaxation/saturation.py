"""Operators whose slope vanishes at a large scale, or at a bound: softmax, sigmoid, tanh; clamp.

Where the slope has vanished for most elements of an example, the backward is that of the operator at the
scale s of its inputs: of f(x / s), whose derivative is f'(x / s) / s. Without the last division, a
temperature of 0.01 before a softmax makes its gradient a hundred times too large beside those on other paths.

Outside of its range a clamp keeps a slope. A number on the bound is inside: some versions of torch give it no
slope, so that a clamp after a rounding to 0 or 1 cuts everything. An element at distance d outside a range of
width w has the slope that the cut has over the interval that reaches back into the range:
min(w, s) / (2 (d + s)). Those far out get a small one, as a cut after a large factor needs it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attacks.relaxation import surrogate_gradients
from attacks.relaxation.record import UNSEEN, Call, Handler, Operator, Relaxing, first
from attacks.relaxation.shadow import live

VANISHED = 1e-3  # a slope, as a share of the largest that the operator has
MOST = 0.5  # share of an example's elements
# Of two logits: from here on float32 rounds the larger probability to 1, and the smaller one to 0.
ROUNDED, LOST = 17.0, 80.0


def softmax(mode: Relaxing, call: Call) -> Any:
    """softmax, log_softmax and softmin along a dimension."""
    z, dim = first(call), call.arg(1, "dim")
    if not live(z) or not isinstance(dim, int):
        return UNSEEN
    real = call.real()
    log = call.name == "log_softmax"
    with torch.no_grad():
        some = surrogate_gradients.sample(real, dim)
        settled = ((some.exp() if log else some).amax(dim, keepdim=True) > 1 - VANISHED).float()
        along_examples = z.ndim < 2 or dim % z.ndim == 0
        share = settled.mean() if along_examples else surrogate_gradients.per_example(settled)
        scale = surrogate_gradients.spread_along(surrogate_gradients.sample(z, dim), dim)
        tau = torch.where(share > MOST, scale.clamp_min(1.0), 1.0)
    op = mode.record.note(call.name, share, scale)
    return _Softmax.apply(z, real, tau, dim, log, op)


class _Softmax(torch.autograd.Function):
    """The value of ``real``, and the gradient of ``softmax(z / tau)``, or of its logarithm."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, real: Tensor, tau: Tensor, dim: int, log: bool, op: Operator | None
    ) -> Tensor:
        ctx.exact = not bool((tau > 1).any())
        ctx.save_for_backward(real if ctx.exact else z, tau)
        ctx.dim, ctx.log, ctx.op, ctx.dtype = dim, log, op, z.dtype
        # The defence may change its own in place.
        return real.clone() if ctx.exact else real.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,), (saved, tau) = grads, ctx.saved_tensors
        surrogate_gradients.flows(ctx.op, grad, exact=ctx.exact)
        inverse = (1 / tau).to(grad.dtype)
        soft = saved
        if not ctx.exact:
            z = saved.to(grad.dtype) * inverse
            soft = z.log_softmax(ctx.dim) if ctx.log else z.softmax(ctx.dim)
        derivative = torch._log_softmax_backward_data if ctx.log else torch._softmax_backward_data
        inner = derivative(grad, soft.to(grad.dtype), ctx.dim, grad.dtype)
        return (inner * inverse).to(ctx.dtype), None, None, None, None, None


def _elementwise(slope: Callable[[Tensor], Tensor], steepest: float = 1.0) -> Handler:
    """A function of single numbers with this derivative, whose largest value is ``steepest``."""

    def handler(mode: Relaxing, call: Call) -> Any:
        x = first(call)
        if not live(x):
            return UNSEEN
        with torch.no_grad():
            vanished = (slope(x).abs() < VANISHED * steepest).float()
            share, scale = surrogate_gradients.per_example(vanished), surrogate_gradients.size(x)
            tau = torch.where(share > MOST, scale.clamp_min(1.0), 1.0).to(x.dtype)
            op = mode.record.note(call.name, share, scale)
            if not bool((tau > 1).any()):
                return UNSEEN  # torch's own derivative, to the last bit
            slopes = slope(x / tau) / tau
        return surrogate_gradients.sloped(call.real(), x, slopes, op)

    return handler


def _sigmoid_slope(x: Tensor) -> Tensor:
    return torch.sigmoid(x) * torch.sigmoid(-x)


def cross_entropy(mode: Relaxing, call: Call) -> Any:
    """Of logits so far apart that no class but one has a probability: then the slope of smaller ones."""
    z, target = first(call), call.arg(1, "target")
    plain = isinstance(target, Tensor) and not target.is_floating_point()
    if not live(z) or z.ndim != 2 or z.shape[1] < 2 or not plain or any(call.args[2:3]):
        return UNSEEN
    with torch.no_grad():
        top = z.float().topk(2, 1).values
        gap = top[:, 0] - top[:, 1]
        rounded = gap > ROUNDED
        if not bool(rounded.any()):
            return UNSEEN
        scale = surrogate_gradients.spread_along(z, 1)
        tau = torch.where(rounded[:, None], scale.clamp_min(1.0), 1.0).to(z.dtype)
    soft = call.func(z / tau, *call.args[1:], **call.kwargs)
    return surrogate_gradients.straight_through(
        call.real(), soft, mode.record.note("cross_entropy", (gap > LOST).float(), scale)
    )


# A cut on one side is what a ReLU is. It hides something only where it leaves next to nothing.
NEXT_TO_ALL = 0.99
FAR = 10.0  # inputs this many times as far apart as the range is wide saturate even a ReLU6


def between(mode: Relaxing, call: Call) -> Any:
    """clamp, clip and hardtanh; one bound may be missing."""
    low, high = call.arg(1, "min"), call.arg(2, "max")
    if call.name == "hardtanh":
        low, high = call.arg(1, "min_val", -1.0), call.arg(2, "max_val", 1.0)
    elif call.name == "clamp_min":
        low, high = call.arg(1, "min"), None
    elif call.name == "clamp_max":
        low, high = None, call.arg(1, "max")
    return _cut(mode, call, first(call), low, high)


def _cut(mode: Relaxing, call: Call, x: Any, low: Any, high: Any) -> Any:
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
        share = surrogate_gradients.per_example(outside.float())
        scale = surrogate_gradients.spread(x).to(x.dtype)
        if not _cuts(low, high, scale):
            # The half of a ReLU that is off stays off, and the few that a ReLU6 cuts stay cut.
            share = share if len(bounds) == 1 else surrogate_gradients.per_example((above > 0).float())
            outside = outside & (share > NEXT_TO_ALL) if len(bounds) == 1 else (above > 0) & (share > MOST)
            if not bool(outside.any()):
                return UNSEEN
        else:
            touched = surrogate_gradients.per_example(on_bound.float())
            share = torch.where(touched > NEXT_TO_ALL, touched, share)
        width = scale if len(bounds) == 1 else torch.minimum(scale, (high - low) * torch.ones_like(scale))
        inside = (distance == 0).to(x.dtype)
        slopes = torch.where(outside, width / (2 * (distance + scale)), inside)
        real = call.func(*call.args, **call.kwargs)
        if real.shape != x.shape:
            return UNSEEN
        op = mode.record.note(call.name, share)
    return surrogate_gradients.sloped(real, x, slopes, op)


def _on_bound(x: Tensor, low: Any, high: Any) -> Tensor:
    none = torch.zeros_like(x, dtype=torch.bool)
    return (none if low is None else x == low) | (none if high is None else x == high)


def _cuts(low: Any, high: Any, scale: Tensor) -> bool:
    """True if it is a range, and not a ReLU, or a ReLU6 of numbers that it is made for."""
    if low is None or high is None:
        return False
    if bool((scale > FAR * (high - low)).any()):
        return True
    return not (isinstance(low, int | float) and low == 0 and isinstance(high, int | float) and high > 1)


HANDLERS: dict[str, Handler] = {
    "softmax": softmax,
    "log_softmax": softmax,
    "sigmoid": _elementwise(_sigmoid_slope, 0.25),
    "tanh": _elementwise(lambda x: 1 - torch.tanh(x) ** 2),
    "cross_entropy_loss": cross_entropy,
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max", "hardtanh"), between),
}
