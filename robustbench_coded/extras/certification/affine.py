"""Affine maps of a network's steps, forwards and backwards, and the lines that bends are held between."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

# What is not affine in a network: functions with a bend, and functions that only rise.

Interval = tuple[Tensor, Tensor]


class Lines(NamedTuple):
    """below.slope * x + below.offset <= f(x) <= above.slope * x + above.offset; like the inputs."""

    below_slope: Tensor
    above_slope: Tensor
    above_offset: Tensor  # the line below goes through the origin


class Bend:
    """f(x) = max(x, slope x), a slope of at most 1: ReLU (0), leaky ReLU (0.01), absolute value (-1)."""

    def __init__(self, slope: float = 0.0):
        if not slope <= 1:
            raise ValueError(f"expected a slope of at most 1, got {slope:g}")
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, self.slope * x)

    def interval(self, low: Tensor, high: Tensor) -> Interval:
        ends = self.forward(low), self.forward(high)
        if self.slope >= 0:
            return ends
        least = torch.where((low < 0) & (high > 0), 0.0, torch.minimum(*ends))
        return least, torch.maximum(*ends)

    def lines(self, low: Tensor, high: Tensor, *, parallel: bool = False) -> Lines:
        """Above, the chord. Below, by default whichever branch is nearer; ``parallel``, the chord's slope.

        Where the sign is settled both lines are the function itself.
        """
        either = (low < 0) & (high > 0)
        # As tensors: `where` would round a number to float32.
        unit, slope = torch.ones_like(low), torch.full_like(low, self.slope)
        settled = torch.where(low >= 0, unit, slope)
        width = torch.where(either, high - low, 1.0)
        chord = torch.where(either, (high - self.slope * low) / width, settled)
        # f(low) = slope * low on the left: the chord starts there.
        offset = torch.where(either, (self.slope - chord) * low, 0.0)
        # A line through the origin lies below max(x, slope x) for any slope between the two branches'.
        nearer = torch.where(high > -low, unit, slope)
        below = torch.where(either, chord if parallel else nearer, settled)
        return Lines(below, chord, offset)


class Rising:
    """A function no output of which falls when an input rises: pooling by maxima, sigmoid, tanh.

    Moving every input by at most d moves no output by more than d.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x.clone())  # it may work in place

    def interval(self, low: Tensor, high: Tensor) -> Interval:
        return self.forward(low), self.forward(high)


@dataclass(frozen=True)
class Affine:
    """An affine map of values [n, *shape], image by image.

    Attributes:
        forward: (*values) what the network computes, in float64.
        spread: (*radii) its weights' absolute values on non-negative radii, no constant: |A| r.
        transpose: (a) coefficients [m, *out] of its output as those of each of its inputs, [m, *in].
    """

    forward: Callable[..., Tensor]
    spread: Callable[..., Tensor]
    transpose: Callable[[Tensor], tuple[Tensor, ...]]


def convolution(
    weight: Tensor, bias: Tensor | None, options: tuple[Any, ...], in_shape: torch.Size
) -> Affine:
    """A 2d convolution with zero padding.

    Args:
        weight: [C_out, C_in / groups, h, w].
        options: stride, padding, dilation, groups.
        in_shape: [C_in, H, W] of what it is applied to.
    """
    return Affine(
        lambda x: functional.conv2d(x, weight, bias, *options),
        lambda radius: functional.conv2d(radius, weight.abs(), None, *options),
        lambda a: (conv2d_input((len(a), *in_shape), weight, a, *options),),
    )


def matrix(weight: Tensor, bias: Tensor | None) -> Affine:
    """A linear layer, weight [out, in], on the last axis; a weight [in] takes that axis away."""
    return Affine(
        lambda x: functional.linear(x, weight, bias),
        lambda radius: functional.linear(radius, weight.abs()),
        lambda a: (a @ weight if weight.ndim == 2 else a.unsqueeze(-1) * weight,),
    )


def scale(factor: Tensor, shift: Tensor) -> Affine:
    """x * factor + shift, number by number; both broadcast to the shape of x."""
    return Affine(
        lambda x: x * factor + shift,
        lambda radius: radius * factor.abs(),
        lambda a: (a * factor,),
    )


def difference() -> Affine:
    """x - y, of equal shapes."""
    return Affine(operator.sub, operator.add, lambda a: (a, -a))


def gathering(function: Callable[..., Tensor], in_shapes: tuple[torch.Size, ...]) -> Affine:
    """Sums, means and rearrangements: linear, without weights, no coefficient negative.

    Args:
        function: of values [n, *shape] for each of ``in_shapes``.
    """

    def transpose(a: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            at = [a.new_zeros(len(a), *shape).requires_grad_() for shape in in_shapes]
            return torch.autograd.grad(function(*at), at, a)

    return Affine(function, function, transpose)
