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
from attacks.relaxation.scale import per_example, size, spread_along
from attacks.relaxation.shadow import live

VANISHED = 1e-3  # a slope, as a share of the largest that the operator has
MOST = 0.5  # share of an example's elements


def softmax(mode: Relaxing, call: Call) -> Any:
    """softmax, log_softmax and softmin along a dimension."""
    z, dim = first(call), call.arg(1, "dim")
    if not live(z) or not isinstance(dim, int):
        return UNSEEN
    real = call.real()
    log = call.name == "log_softmax"
    winner = real.detach().exp() if log else real
    settled = (winner.amax(dim, keepdim=True) > 1 - VANISHED).float()
    along_examples = z.ndim < 2 or dim % z.ndim == 0
    share = settled.mean() if along_examples else per_example(settled)
    scale = spread_along(z, dim)
    tau = torch.where(share > MOST, scale.clamp_min(1.0), 1.0)
    met = mode.record.note(call.name, share, scale)
    return _Softmax.apply(z, real, tau, dim, log, met)


class _Softmax(torch.autograd.Function):
    """The value of ``real``, and the gradient of ``softmax(z / tau)``, or of its logarithm."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, real: Tensor, tau: Tensor, dim: int, log: bool, met: Met | None
    ) -> Tensor:
        ctx.save_for_backward(z, tau)
        ctx.dim, ctx.log, ctx.met = dim, log, met
        return real.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,), (z, tau) = grads, ctx.saved_tensors
        flows(ctx.met, grad)
        soft = (z.to(grad.dtype) / tau.to(grad.dtype)).softmax(ctx.dim)
        if ctx.log:
            inner = grad - soft * grad.sum(ctx.dim, keepdim=True)
        else:
            inner = soft * (grad - (grad * soft).sum(ctx.dim, keepdim=True))
        return (inner / tau.to(grad.dtype)).to(z.dtype), None, None, None, None, None


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
    """exp of large negative numbers, as in a softmax by hand; large positive ones do not vanish."""
    x = first(call)
    if not live(x) or call.name != "exp":
        return UNSEEN
    with torch.no_grad():
        vanished = (x < -20).float()
        share, scale = per_example(vanished), size(x)
        if not bool((share > MOST).any()):
            return UNSEEN
        tau = torch.where(share > MOST, scale.clamp_min(1.0), 1.0).to(x.dtype)
        slopes = torch.exp((x / tau).clamp_max(80.0)) / tau
    return sloped(call.real(), x, slopes, mode.record.note("exp", share, scale))


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
    plain = isinstance(target, Tensor) and not target.is_floating_point() and len(call.args) <= 2
    if not live(z) or z.ndim != 2 or not plain or call.kwargs.get("label_smoothing"):
        return UNSEEN
    with torch.no_grad():
        settled = (z.detach().float().softmax(1).amax(1) == 1).float()
        scale = spread_along(z, 1)
        if not bool(settled.any()):
            return UNSEEN
        tau = torch.where(settled[:, None] > 0, scale.clamp_min(1.0), 1.0).to(z.dtype)
    soft = call.func(z / tau, *call.args[1:], **call.kwargs)
    return graft(call.real(), soft, mode.record.note("cross_entropy", settled, scale))


_NORMAL = 2 / math.sqrt(math.pi)

HANDLERS: dict[str, Handler] = {
    "softmax": softmax,
    "log_softmax": softmax,
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
    "pow": power,
    "__pow__": power,
    "cross_entropy_loss": cross_entropy,
}
