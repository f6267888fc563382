"""Surrogate gradients: answers that keep their value bit for bit and take their gradient from elsewhere.

How wide a smooth slope has to be is told by the scale of an operator's inputs. A defence that
differentiates something itself would answer otherwise if it were given such a gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.record import Operator


class OwnPass:
    """True if a pass backward of the defence's own is under way."""

    running = False


@contextmanager
def own_pass() -> Iterator[None]:
    """Around a pass backward that the defence makes itself, in which nothing may be relaxed."""
    before, OwnPass.running = OwnPass.running, True
    try:
        yield
    finally:
        OwnPass.running = before


class _StraightThrough(torch.autograd.Function):
    """The value of ``real``, and the gradient that ``soft`` of the same shape has."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor, real: Tensor, op: Operator | None) -> Tensor:
        ctx.op, ctx.dtype = op, soft.dtype
        return real.detach()  # a tensor of its own, which the defence may change in place

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        flows(ctx.op, grad)
        return grad.to(ctx.dtype), None, None


class _Sloped(torch.autograd.Function):
    """The value of ``real``, and the gradient of ``slope * x``; all three of one shape, or slope a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, real: Tensor, slope: Tensor | float, op: Operator | None) -> Tensor:
        ctx.op, ctx.dtype, ctx.slope = op, x.dtype, slope
        return real.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        flows(ctx.op, grad)
        return (grad * ctx.slope).to(ctx.dtype), None, None, None


def flows(op: Operator | None, grad: Tensor, *, exact: bool = False) -> None:
    """Takes note of a gradient that flows back.

    Args:
        exact: whether it is torch's own.
    Raises:
        RuntimeError: it is not, and the defence asks for it.
    """
    if OwnPass.running and not exact:
        raise RuntimeError("a defence that takes gradients itself is relaxed less")
    if op is not None and bool((grad != 0).any()):
        op.flowed += 1


def straight_through(real: Tensor, soft: Tensor, op: Operator | None = None) -> Tensor:
    """``real``, differentiated as ``soft``; both floating and of one shape."""
    return _StraightThrough.apply(soft, real, op)


def sloped(real: Tensor, x: Tensor, slope: Tensor | float = 1.0, op: Operator | None = None) -> Tensor:
    """``real``, differentiated as if it were ``slope * x``; both floating and of one shape."""
    return _Sloped.apply(x, real, slope, op)


ENOUGH = 2**12  # elements of an example tell its scale
TINY = 1e-30  # of what is all alike, a scale says nothing: it counts as 1


def per_example(x: Tensor) -> Tensor:
    """Mean of ``x`` over everything but its first axis, kept: one number an example.

    A tensor of one axis, or of none, is one example. Examples of a batch do not share a scale, so that what
    an attack learns about the one does not depend on the batch it is computed in.
    """
    if x.ndim < 2:
        return x.mean().expand_as(x)
    return x.flatten(1).mean(1).view(-1, *[1] * (x.ndim - 1))


def size(x: Tensor) -> Tensor:
    """Mean absolute value of each example; infinities do not count."""
    return _positive(per_example(_finite(x).abs()))


def spread(x: Tensor) -> Tensor:
    """Mean absolute distance of each example's elements from their mean."""
    finite = _finite(x)
    return _positive(per_example((finite - per_example(finite)).abs()))


def spread_along(x: Tensor, dim: int) -> Tensor:
    """Mean absolute distance from the mean along ``dim``, by example; -inf (a masked entry) does not count.

    Where ``dim`` is the first axis, one number for all.
    """
    x = x.detach().float()
    there = torch.isfinite(x)
    z = torch.where(there, x, 0.0)
    count = there.sum(dim, keepdim=True).clamp_min(1)
    away = torch.where(there, (z - z.sum(dim, keepdim=True) / count).abs(), 0.0)
    if x.ndim < 2 or dim % x.ndim == 0:
        return _positive((away.sum() / there.sum().clamp_min(1)).expand([1] * x.ndim))
    share = there.flatten(1).float().mean(1).clamp_min(TINY)
    return _positive((away.flatten(1).mean(1) / share).view(-1, *[1] * (x.ndim - 1)))


def sample(x: Tensor, dim: int) -> Tensor:
    """Some of the elements of ``x``, regularly spaced along its longest axis beside the first and ``dim``."""
    axes = [axis for axis in range(1, x.ndim) if axis != dim % x.ndim]
    if not axes or (each := x[0].numel()) <= ENOUGH:
        return x
    axis = max(axes, key=lambda axis: x.shape[axis])
    step = min(-(-each // ENOUGH), x.shape[axis])
    return x[(slice(None),) * axis + (slice(step // 2, None, step),)]


def _finite(x: Tensor) -> Tensor:
    return torch.nan_to_num(x.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)


def _positive(scale: Tensor) -> Tensor:
    return torch.where(scale > TINY, scale, 1.0)
