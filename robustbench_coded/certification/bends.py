"""What is not affine in a network: functions with a bend, and functions that only rise.

interval(low, high)   least and largest value over inputs from low to high
lines(low, high, ..)  for each input a line below and a line above the function, as (slope, offset) each
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

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
