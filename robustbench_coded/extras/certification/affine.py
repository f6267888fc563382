"""Affine maps of a network's steps, forwards and backwards, and the lines that bends are held between."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# What is not affine in a network: functions with a bend, and functions that only rise.
#
# interval(low, high)   least and largest value over inputs from low to high lines(low, high, ..)  for each
# input a line below and a line above the function, as (slope, offset) each


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
        one, slope = torch.ones_like(low), torch.full_like(low, self.slope)
        settled = torch.where(low >= 0, one, slope)
        width = torch.where(either, high - low, 1.0)
        chord = torch.where(either, (high - self.slope * low) / width, settled)
        # f(low) = slope * low on the left: the chord starts there.
        offset = torch.where(either, (self.slope - chord) * low, 0.0)
        # A line through the origin lies below max(x, slope x) for any slope between the two branches'.
        nearer = torch.where(high > -low, one, slope)
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


# Affine operations of a network: forwards, with absolute weights, and backwards.
#
# Every operation maps values [n, *shape], image by image:
#
#     forward(*values)      what the network computes, in float64
#     spread(*radii)        its weights' absolute values on non-negative radii, no constant: |A| r
#     transpose(a)          coefficients [m, *out] of its output as those of each of its inputs, [m, *in]
#     fan_in                numbers that one number of the output is a sum of, for rounding
#     diagonal              whether each number of the output depends on one of the input alone


class Convolution:
    """A 2d convolution with zero padding.

    Args:
        weight: [C_out, C_in / groups, h, w].
        in_shape: [C_in, H, W] of what it is applied to.
    """

    diagonal = False

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        in_shape: torch.Size,
    ):
        self.weight, self.bias = weight, bias
        self.rest = (stride, padding, dilation, groups)
        self.in_shape = in_shape
        self.fan_in = weight[0].numel() + 1

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, *self.rest)

    def spread(self, radius: Tensor) -> Tensor:
        return functional.conv2d(radius, self.weight.abs(), None, *self.rest)

    def transpose(self, a: Tensor) -> tuple[Tensor]:
        stride, padding, dilation, groups = self.rest
        # Rows and columns at the far edge that no window reaches.
        unseen = [
            self.in_shape[1 + i]
            - (
                (a.shape[-2 + i] - 1) * stride[i]
                - 2 * padding[i]
                + dilation[i] * (self.weight.shape[2 + i] - 1)
                + 1
            )
            for i in (0, 1)
        ]
        return (functional.conv_transpose2d(a, self.weight, None, stride, padding, unseen, groups, dilation),)


class Matrix:
    """A linear layer, weight [out, in], on the last axis; a weight [in] takes that axis away."""

    diagonal = False

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight, bias
        self.fan_in = weight.shape[-1] + 1

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def spread(self, radius: Tensor) -> Tensor:
        return functional.linear(radius, self.weight.abs())

    def transpose(self, a: Tensor) -> tuple[Tensor]:
        return (a @ self.weight if self.weight.ndim == 2 else a.unsqueeze(-1) * self.weight,)


class Scale:
    """x * scale + shift, number by number; both broadcast to the shape of x.

    ``fan_in`` covers the subtraction, the root and the division that a batch-norm makes of it.
    """

    diagonal = True
    fan_in = 6

    def __init__(self, scale: Tensor, shift: Tensor):
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

    def spread(self, radius: Tensor) -> Tensor:
        return radius * self.scale.abs()

    def transpose(self, a: Tensor) -> tuple[Tensor]:
        return (a * self.scale,)


class AffineDifference:
    """x - y, of equal shapes."""

    diagonal = True
    fan_in = 2

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x - y

    def spread(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def transpose(self, a: Tensor) -> tuple[Tensor, Tensor]:
        return a, -a


class Gathering:
    """Sums, means and rearrangements: linear, without weights, no coefficient negative.

    Args:
        function: of values [n, *shape] for each of ``in_shapes``.
        terms: numbers that one of the output is a sum of.
    """

    diagonal = False

    def __init__(self, function: Callable[..., Tensor], in_shapes: tuple[torch.Size, ...], terms: int):
        self.function, self.in_shapes = function, in_shapes
        self.fan_in = terms
        self.diagonal = terms == 1

    def forward(self, *values: Tensor) -> Tensor:
        return self.function(*values)

    def spread(self, *radii: Tensor) -> Tensor:
        return self.function(*radii)

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            at = [a.new_zeros(len(a), *shape).requires_grad_() for shape in self.in_shapes]
            return torch.autograd.grad(self.function(*at), at, a)


Affine = Convolution | Matrix | Scale | AffineDifference | Gathering
