"""Smooth operators at so large a scale that their slope is nowhere to be seen: softmax, sigmoid, tanh, exp.

Where the slope has vanished for most elements of an example, the backward is that of the operator at the
scale s of its inputs: of f(x / s), whose derivative is f'(x / s) / s. Without the last division, a
temperature of 0.01 before a softmax makes its gradient a hundred times too large beside those on other paths.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.call import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.graft import flows, graft, sloped
from attacks.relaxation.record import Met
from attacks.relaxation.scale import per_example, sample, size, spread_along
from attacks.relaxation.shadow import live

VANISHED = 1e-3  # a slope, as a share of the largest that the operator has
FEW_OF_MANY, MANY = 0.95, 32
MOST = 0.5  # share of an example's elements
# Of two logits: from here on float32 rounds the larger probability to 1, and the smaller one to 0.
ROUNDED, LOST = 17.0, 80.0
OVERFLOWING = 80.0  # where exp is near the largest float32
FORBIDDEN = -1e4  # of what is added to scores of attention: no key for this query
NOTHING = 1e-20  # of a probability: its inverse, times another such, still is a float32


def softmax(mode: Relaxing, call: Call) -> Any:
    """softmax, log_softmax and softmin along a dimension."""
    z, dim = first(call), call.arg(1, "dim")
    if not live(z) or not isinstance(dim, int):
        return UNSEEN
    real = call.real()
    log = call.name == "log_softmax"
    with torch.no_grad():
        some = sample(real, dim)
        settled = _settled(some.exp() if log else some, dim).float()
        along_examples = z.ndim < 2 or dim % z.ndim == 0
        share = settled.mean() if along_examples else per_example(settled)
        scale = spread_along(sample(z, dim), dim)
        tau = torch.where(share > MOST, scale.clamp_min(1.0), 1.0)
    met = mode.record.note(call.name, share, scale)
    return _Softmax.apply(z, real, tau, dim, log, met)


def _settled(p: Tensor, dim: int) -> Tensor:
    """Where one probability, or a few of many, are all there is; ``p`` without its dimension ``dim``, kept.

    A softmax over hundreds of keys at a large scale is settled by the few next to the query, between which
    it still has a slope.
    """
    n, one = p.shape[dim], p.amax(dim, keepdim=True) > 1 - VANISHED
    if n < MANY:
        return one
    return one | ((p < VANISHED / n).sum(dim, keepdim=True) > FEW_OF_MANY * n)


class _Softmax(torch.autograd.Function):
    """The value of ``real``, and the gradient of ``softmax(z / tau)``, or of its logarithm."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, real: Tensor, tau: Tensor, dim: int, log: bool, met: Met | None
    ) -> Tensor:
        ctx.exact = not bool((tau > 1).any())
        ctx.save_for_backward(real if ctx.exact else z, tau)
        ctx.dim, ctx.log, ctx.met, ctx.dtype = dim, log, met, z.dtype
        # The defence may change its own in place.
        return real.clone() if ctx.exact else real.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,), (saved, tau) = grads, ctx.saved_tensors
        flows(ctx.met, grad, exact=ctx.exact)
        inverse = (1 / tau).to(grad.dtype)
        soft = saved
        if not ctx.exact:
            z = saved.to(grad.dtype) * inverse
            soft = z.log_softmax(ctx.dim) if ctx.log else z.softmax(ctx.dim)
        derivative = torch._log_softmax_backward_data if ctx.log else torch._softmax_backward_data
        inner = derivative(grad, soft.to(grad.dtype), ctx.dim, grad.dtype)
        return (inner * inverse).to(ctx.dtype), None, None, None, None, None


def attention(mode: Relaxing, call: Call) -> Any:
    """scaled_dot_product_attention where its softmax is settled: the same by hand."""
    q, k, v = (call.arg(i, name) for i, name in enumerate(("query", "key", "value")))
    if not any(map(live, (q, k, v))) or call.arg(4, "dropout_p", 0.0) or call.kwargs.get("enable_gqa"):
        return UNSEEN
    given = call.kwargs.get("scale")
    factor = 1 / math.sqrt(q.shape[-1]) if given is None else given
    with torch.no_grad():
        few = sample(q, -1) * factor
        settled = _settled((few @ k.transpose(-2, -1)).softmax(-1), -1).float()
        if not bool((per_example(settled) > MOST).any()):
            return UNSEEN
    scores = q @ k.transpose(-2, -1) * factor
    mask = call.arg(3, "attn_mask")
    if call.arg(5, "is_causal", False):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        allowed = mask if mask.dtype == torch.bool else mask > FORBIDDEN
        scores = scores if mask.dtype == torch.bool else scores + mask
        scores = scores.masked_fill(~allowed, -torch.inf)
    weights = softmax(mode, Call(torch.softmax, "softmax", (scores, -1), {}))
    return graft(call.real(), (weights if isinstance(weights, Tensor) else scores.softmax(-1)) @ v)


def _elementwise(slope: Callable[[Tensor], Tensor], steepest: float = 1.0) -> Handler:
    """A function of single numbers with this derivative, whose largest value is ``steepest``."""

    def handler(mode: Relaxing, call: Call) -> Any:
        x = first(call)
        if not live(x):
            return UNSEEN
        with torch.no_grad():
            vanished = (slope(x).abs() < VANISHED * steepest).float()
            share, scale = per_example(vanished), size(x)
            tau = torch.where(share > MOST, scale.clamp_min(1.0), 1.0).to(x.dtype)
            met = mode.record.note(call.name, share, scale)
            if not bool((tau > 1).any()):
                return UNSEEN  # torch's own derivative, to the last bit
            slopes = slope(x / tau) / tau
        return sloped(call.real(), x, slopes, met)

    return handler


def _sigmoid_slope(x: Tensor) -> Tensor:
    return torch.sigmoid(x) * torch.sigmoid(-x)


def exp(mode: Relaxing, call: Call) -> Any:
    """exp of large negative numbers, as in a softmax by hand; where it overflows, the slope before."""
    x = first(call)
    if not live(x) or call.name != "exp":
        return UNSEEN
    with torch.no_grad():
        vanished = (x < -20).float()
        share, scale = per_example(vanished), size(x)
        if not bool((share > MOST).any()) and not bool((x > OVERFLOWING).any()):
            return UNSEEN
        tau = torch.where(share > MOST, scale.clamp_min(1.0), 1.0).to(x.dtype)
        slopes = torch.exp((x / tau).clamp_max(OVERFLOWING)) / tau
    return sloped(call.real(), x, slopes, mode.record.note("exp", share, scale))


def logarithm(mode: Relaxing, call: Call) -> Any:
    """log of next to nothing, whose slope overflows: that of an element which is not so small."""
    x = first(call)
    if not live(x):
        return UNSEEN
    with torch.no_grad():
        nothing = x < NOTHING
        if not bool(nothing.any()):
            return UNSEEN
        slopes = 1 / x.clamp_min(NOTHING)
    return sloped(call.real(), x, slopes, mode.record.note("log", per_example(nothing.float())))


def power(mode: Relaxing, call: Call) -> Any:
    """x ** p of numbers below 1 for a large p: exp(p log x), as above."""
    x, p = first(call), call.arg(1, "exponent")
    if not live(x) or isinstance(p, Tensor) or not isinstance(p, int | float) or p < 8:
        return UNSEEN
    with torch.no_grad():
        u = p * x.abs().clamp_min(1e-12).log()
        vanished = (u < -20).float()
        share, scale = per_example(vanished), size(u)
        if not bool((share > MOST).any()):
            return UNSEEN
        tau = torch.where(share > MOST, scale.clamp_min(1.0), 1.0).to(x.dtype)
        slopes = torch.exp((u / tau).clamp_max(80.0)) / tau * p / x.abs().clamp_min(1e-3) * x.sign()
    return sloped(call.real(), x, slopes, mode.record.note("pow", share, scale))


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
        scale = spread_along(z, 1)
        tau = torch.where(rounded[:, None], scale.clamp_min(1.0), 1.0).to(z.dtype)
    soft = call.func(z / tau, *call.args[1:], **call.kwargs)
    return graft(call.real(), soft, mode.record.note("cross_entropy", (gap > LOST).float(), scale))


_NORMAL = 2 / math.sqrt(math.pi)

HANDLERS: dict[str, Handler] = {
    "softmax": softmax,
    "log_softmax": softmax,
    "scaled_dot_product_attention": attention,
    "sigmoid": _elementwise(_sigmoid_slope, 0.25),
    "expit": _elementwise(_sigmoid_slope, 0.25),
    "tanh": _elementwise(lambda x: 1 - torch.tanh(x) ** 2),
    "log_sigmoid": _elementwise(lambda x: torch.sigmoid(-x)),
    "erf": _elementwise(lambda x: _NORMAL * torch.exp(-x * x), _NORMAL),
    "erfc": _elementwise(lambda x: -_NORMAL * torch.exp(-x * x), _NORMAL),
    "softsign": _elementwise(lambda x: 1 / (1 + x.abs()) ** 2),
    "atan": _elementwise(lambda x: 1 / (1 + x * x)),
    "arctan": _elementwise(lambda x: 1 / (1 + x * x)),
    "exp": exp,
    "log": logarithm,
    "pow": power,
    "__pow__": power,
    "cross_entropy_loss": cross_entropy,
}
