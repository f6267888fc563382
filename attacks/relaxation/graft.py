"""Answers that keep their value bit for bit and take their gradient from somewhere else.

A defence that differentiates something itself would answer otherwise if it were given such a gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.record import Met


class OwnPass:
    """Whether a pass backward of the defence's own is under way."""

    running = False


@contextmanager
def own_pass() -> Iterator[None]:
    """Around a pass backward that the defence makes itself, in which nothing may be relaxed."""
    before, OwnPass.running = OwnPass.running, True
    try:
        yield
    finally:
        OwnPass.running = before


class _Graft(torch.autograd.Function):
    """The value of ``real``, and the gradient that ``soft`` of the same shape has."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor, real: Tensor, met: Met | None) -> Tensor:
        ctx.met, ctx.dtype = met, soft.dtype
        return real.detach()  # a tensor of its own, which the defence may change in place

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        flows(ctx.met, grad)
        return grad.to(ctx.dtype), None, None


class _Sloped(torch.autograd.Function):
    """The value of ``real``, and the gradient of ``slope * x``; all three of one shape, or slope a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, real: Tensor, slope: Tensor | float, met: Met | None) -> Tensor:
        ctx.met, ctx.dtype, ctx.slope = met, x.dtype, slope
        return real.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        flows(ctx.met, grad)
        return (grad * ctx.slope).to(ctx.dtype), None, None, None


def flows(met: Met | None, grad: Tensor, *, exact: bool = False) -> None:
    """Takes note of a gradient that flows back.

    Args:
        exact: whether it is torch's own.
    Raises:
        RuntimeError: it is not, and the defence asks for it.
    """
    if OwnPass.running and not exact:
        raise RuntimeError("a defence that takes gradients itself is relaxed less")
    if met is not None and bool((grad != 0).any()):
        met.flowed += 1


def graft(real: Tensor, soft: Tensor, met: Met | None = None) -> Tensor:
    """``real``, differentiated as ``soft``; both floating and of one shape."""
    return _Graft.apply(soft, real, met)


def sloped(real: Tensor, x: Tensor, slope: Tensor | float = 1.0, met: Met | None = None) -> Tensor:
    """``real``, differentiated as if it were ``slope * x``; both floating and of one shape."""
    return _Sloped.apply(x, real, slope, met)
