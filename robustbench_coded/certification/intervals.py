"""Regions of inputs, interval bounds through a graph, and how far float32 may round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_coded.certification.affine import Bend, Interval, Rising
from robustbench_coded.certification.graph import Graph, Step

# An attack's projection works in float32: it may leave the ball by the last bits of a pixel, and by 1e-5 of
# eps where inputs are submitted to another subject.
BEYOND = 2e-6
BEYOND_SHARE = 2e-5


@dataclass(frozen=True)
class Region:
    """n images, each in its own ball within the box.

    Attributes:
        centre: [n, *shape], float64.
        low, high: like it; the smallest box around the ball within [0, 1].
        l2: radius [n] of each ball in l2, in units of ``unit``; None for l-infinity, where the box is all.
        unit: a channel's pixel units in one unit of eps, [C, 1, 1] or a scalar.
    """

    centre: Tensor
    low: Tensor
    high: Tensor
    l2: Tensor | None
    unit: Tensor

    @classmethod
    def around(cls, x: Tensor, norm: str, eps: float, unit: Tensor | None = None) -> "Region":
        """The region of every image of x [n, C, H, W] in [0, 1].

        Args:
            norm: ``linf``, ``l2`` or ``l1``; the ball of the last lies in that of l2.
            unit: [C], the deviations that a normalized eps is measured in; None for pixels.
        """
        x = x.double()
        unit = x.new_ones(()) if unit is None else unit.to(x).view(-1, 1, 1)
        eps = eps * (1 + BEYOND_SHARE)
        radius = eps * unit + BEYOND
        beyond = BEYOND * x[0].numel() ** 0.5 / float(unit.min())
        return cls(
            centre=x,
            low=torch.minimum((x - radius).clamp(0, 1), x),
            high=torch.maximum((x + radius).clamp(0, 1), x),
            l2=x.new_full((len(x),), eps + beyond) if norm in ("l2", "l1") else None,
            unit=unit,
        )

    def __getitem__(self, rows: slice | Tensor) -> "Region":
        l2 = None if self.l2 is None else self.l2[rows]
        return Region(self.centre[rows], self.low[rows], self.high[rows], l2, self.unit)

    def __len__(self) -> int:
        return len(self.centre)

    def moved(self, by: Tensor) -> "Region":
        """The same with every image shifted by ``by``: noise that the attack knows."""
        return Region(self.centre + by, self.low + by, self.high + by, self.l2, self.unit)

    def reach(self) -> Tensor:
        """How far each image can move in l2, in pixel units, [n]."""
        furthest = torch.maximum(self.high - self.centre, self.centre - self.low).flatten(1).norm(dim=1)
        return furthest if self.l2 is None else torch.minimum(furthest, self.l2 * float(self.unit.max()))

    def mixed(self, weights: Tensor) -> "Region":
        """The regions of the mixtures ``weights`` [m, n] x of the n images, each for itself."""
        positive, negative = weights.clamp(min=0), weights.clamp(max=0)

        def mix(w: Tensor, x: Tensor) -> Tensor:
            return torch.tensordot(w, x, dims=1)

        return Region(
            mix(weights, self.centre),
            mix(positive, self.low) + mix(negative, self.high),
            mix(positive, self.high) + mix(negative, self.low),
            None if self.l2 is None else weights.abs() @ self.l2,
            self.unit,
        )

    def least(self, a: Tensor) -> Tensor:
        """A lower bound [n, S] on a . x over the region; a is [n, S, *shape]. Exact for l-infinity.

        In l2 the larger of the least over the ball and the least over the box.
        """
        found = times(a, (self.high + self.low) / 2) - times(a.abs(), (self.high - self.low) / 2)
        if self.l2 is None:
            return found
        length = (a * self.unit).flatten(2).norm(dim=2)
        return torch.maximum(found, times(a, self.centre) - self.l2.unsqueeze(1) * length)


def times(a: Tensor, value: Tensor) -> Tensor:
    """Inner products [n, S] of a [n, S, *shape] with value [n or 1, *shape]."""
    product = a * value.unsqueeze(1)
    return product.reshape(*a.shape[:2], -1).sum(2)


# How far the logits that a network answers in float32 can lie from those of exact arithmetic.
#
# Bounds are worked out in float64, attacks are scored in float32. A sum of k products is off by at most k u /
# (1 - k u) times the sum of their absolute values, in whatever order it is made (Higham, Accuracy and
# Stability of Numerical Algorithms, section 3.1), u = 2^-24. What one step is off by, the next ones carry on:
# a running bound over all inputs of a region. ``SAFETY`` covers sums that are not made as such (Winograd's
# convolutions) and what float64 rounds.


UNIT = 2.0**-24
SAFETY = 2.0
FUNCTION = 8 * UNIT  # of a function's own value: sigmoid, tanh


def rounding(graph: Graph, bounds: Sequence[Interval], start: Tensor | None = None) -> Tensor:
    """How far each logit may be off, [n, classes].

    What no step cancels adds up here, so deep networks may be off by more than their logits; their linear
    bounds follow each step's own error back instead (``rounded``).

    Args:
        bounds: intervals of all values over the region.
        start: how far the images may be off; by default, as a float32 is of a sum of two.
    """
    off = [UNIT * largest(bounds[0]) if start is None else start]
    for made, step in enumerate(graph.steps, start=1):
        before = [off[i] for i in step.inputs]
        if isinstance(step.op, Bend):
            off.append(before[0] * max(1.0, abs(step.op.slope)) + UNIT * largest(bounds[made]))
        elif isinstance(step.op, Rising):
            most = before[0].flatten(1).amax(1).view(-1, *(1,) * len(step.shape))
            off.append(most + FUNCTION * largest(bounds[made]))
        else:
            sizes = [largest(bounds[i]) + off[i] for i in step.inputs]
            constant = step.op.forward(*(torch.zeros_like(s[:1]) for s in sizes)).abs()
            share = sum_off(step.op.fan_in)
            off.append(step.op.spread(*before) + share * (step.op.spread(*sizes) + constant))
    return off[-1]


def own_rounding(step: Step, before: Sequence[Interval], made: Interval | None) -> Tensor | None:
    """How far float32 may put what a step makes from what it makes in exact arithmetic of the same inputs.

    Args:
        before: of its inputs as float32 has them.
        made: of its output; only functions that are not sums need it.

    Returns:
        [n, *shape], or one number for all; None for nothing: ReLUs and absolute values are exact.
    """
    if isinstance(step.op, Bend):
        if step.op.slope in (0.0, 1.0, -1.0):
            return None
        assert made is not None
        return UNIT * largest(made)
    if isinstance(step.op, Rising):
        assert made is not None
        return FUNCTION * largest(made)
    sizes = [largest(bound) for bound in before]
    constant = step.op.forward(*(torch.zeros_like(s[:1]) for s in sizes)).abs()
    return sum_off(step.op.fan_in) * (step.op.spread(*sizes) + constant)


def sum_off(terms: int) -> float:
    """By how much a sum of so many products may be off, as a share of the sum of their absolute values."""
    return SAFETY * terms * UNIT / (1 - SAFETY * terms * UNIT)


def largest(bound: Interval) -> Tensor:
    low, high = bound
    return torch.maximum(low.abs(), high.abs())


def intervals(
    graph: Graph,
    region: Region,
    known: Mapping[int, Interval] | None = None,
    *,
    rounded: bool = False,
) -> list[Interval]:
    """(low, high) of every value of the graph, each [n, *shape].

    Args:
        known: bounds on some values that come from elsewhere; where both exist, the tighter holds.
        rounded: of the values that float32 has, not of those of exact arithmetic.
    """
    return steps_from(graph, [of_images(region, rounded=rounded)], known or {}, rounded=rounded)


def of_images(region: Region, *, rounded: bool) -> Interval:
    """The region's box; ``rounded``, with images off as a float32 is of a sum of two."""
    off = UNIT * largest((region.low, region.high)) if rounded else 0.0
    return region.low - off, region.high + off


def steps_from(
    graph: Graph, found: list[Interval], known: Mapping[int, Interval], *, rounded: bool = False
) -> list[Interval]:
    """The intervals of all values, from those of the first ones."""
    found = list(found)
    for step in graph.steps[len(found) - 1 :]:
        ends = [found[i] for i in step.inputs]
        if isinstance(step.op, Bend | Rising):
            low, high = step.op.interval(*ends[0])
        else:
            middle = step.op.forward(*((low + high) / 2 for low, high in ends))
            radius = step.op.spread(*((high - low) / 2 for low, high in ends))
            low, high = middle - radius, middle + radius
        own = own_rounding(step, ends, (low, high)) if rounded else None
        if own is not None:
            low, high = low - own, high + own
        other = known.get(len(found))
        if other is not None:
            low, high = torch.maximum(low, other[0]), torch.minimum(high, other[1])
        found.append((low, high))
    return found


def margins_from_logits(low: Tensor, high: Tensor, y: Tensor) -> Tensor:
    """Lower bounds [n, classes] on how far class y is ahead of each, from intervals of the logits."""
    ahead = low.gather(1, y[:, None]) - high
    return ahead.scatter(1, y[:, None], torch.inf)
