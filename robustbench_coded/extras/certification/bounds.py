"""Regions of inputs; interval bounds through a graph, linear bounds followed backwards through it (CROWN,
arXiv 1811.00866), and the best of both on a network's margins, less what float32 may round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_coded.extras.certification.affine import Bend, Interval, Rising
from robustbench_coded.extras.certification.graph import Graph

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

    def least(self, a: Tensor) -> Tensor:
        """A lower bound [n, S] on a . x over the region; a is [n, S, *shape]. Exact for l-infinity.

        In l2 the larger of the least over the ball and the least over the box.
        """
        lower = times(a, (self.high + self.low) / 2) - times(a.abs(), (self.high - self.low) / 2)
        if self.l2 is None:
            return lower
        length = (a * self.unit).flatten(2).norm(dim=2)
        return torch.maximum(lower, times(a, self.centre) - self.l2.unsqueeze(1) * length)


def times(a: Tensor, value: Tensor) -> Tensor:
    """Inner products [n, S] of a [n, S, *shape] with value [n or 1, *shape]."""
    product = a * value.unsqueeze(1)
    return product.reshape(*a.shape[:2], -1).sum(2)


# Bounds are worked out in float64, attacks are scored in float32. For what float32 rounds, ROUNDING of an
# image's largest logit is taken off every margin; measured differences are about 1e-6 of it.


ROUNDING = 1e-5


def off_by_rounding(logits: Tensor) -> Tensor:
    """[n, 1]: what is taken off margins [n, classes] for rounding, by the images' logits [n, classes]."""
    return ROUNDING * logits.abs().amax(1, keepdim=True)


def intervals(graph: Graph, region: Region) -> list[Interval]:
    """(low, high) of every value of the graph, each [n, *shape]."""
    return steps_from(graph, [(region.low, region.high)])


def steps_from(graph: Graph, bounds: list[Interval]) -> list[Interval]:
    """The intervals of all values, from those of the first ones."""
    bounds = list(bounds)
    for step in graph.steps[len(bounds) - 1 :]:
        ends = [bounds[i] for i in step.inputs]
        if isinstance(step.op, Bend | Rising):
            bounds.append(step.op.interval(*ends[0]))
        else:
            middle = step.op.forward(*((low + high) / 2 for low, high in ends))
            radius = step.op.spread(*((high - low) / 2 for low, high in ends))
            bounds.append((middle - radius, middle + radius))
    return bounds


def margins_from_logits(low: Tensor, high: Tensor, y: Tensor) -> Tensor:
    """Lower bounds [n, classes] on how far class y is ahead of each, from intervals of the logits."""
    ahead = low.gather(1, y[:, None]) - high
    return ahead.scatter(1, y[:, None], torch.inf)


# Every number that a bend is applied to lies between two bounds, and on them the bend lies between two lines.
# So a linear function of the logits, followed backwards step by step, is bounded below by a linear function
# of the pixels, whose least value over an image's region is known.


COEFFICIENTS = 2**20  # of one value that are followed back at once, in numbers: more leave the cache


@dataclass(frozen=True)
class LinearBound:
    """a . x + constant, no larger than what was followed back: a is [n, S, C, H, W], constant [n, S]."""

    a: Tensor
    constant: Tensor


def backward(
    graph: Graph,
    bounds: Sequence[Interval],
    value: int,
    a: Tensor,
    *,
    parallel: bool = False,
) -> LinearBound:
    """Coefficients of one value as coefficients of the images: a lower bound.

    Args:
        bounds: of every value that something with a bend is applied to.
        value: which value; the last one is the logits.
        a: [n, S, *shape].
        parallel: lines below with the slope of those above (arXiv 1711.00851), not the nearer branch.
    """
    rows = a.shape[:2]
    constant = a.new_zeros(rows)
    coefficients: dict[int, Tensor] = {value: a}
    for made in range(value, 0, -1):
        if made not in coefficients:
            continue
        a, step = coefficients.pop(made), graph.steps[made - 1]
        if isinstance(step.op, Rising):
            made_low, made_high = step.op.interval(*bounds[step.inputs[0]])
            constant = constant + times(a.clamp(min=0), made_low) + times(a.clamp(max=0), made_high)
            continue
        if isinstance(step.op, Bend):
            lines = step.op.lines(*bounds[step.inputs[0]], parallel=parallel)
            positive, negative = a.clamp(min=0), a.clamp(max=0)
            constant = constant + times(negative, lines.above_offset)
            back: tuple[Tensor, ...] = (
                positive * lines.below_slope.unsqueeze(1) + negative * lines.above_slope.unsqueeze(1),
            )
        else:
            nothing = step.op.forward(*(a.new_zeros(1, *graph.shape(i)) for i in step.inputs))
            constant = constant + times(a, nothing)
            back = tuple(b.unflatten(0, rows) for b in step.op.transpose(a.flatten(0, 1)))
        for number, part in zip(step.inputs, back, strict=True):
            coefficients[number] = coefficients[number] + part if number in coefficients else part
    if 0 not in coefficients:  # a value that no image reaches
        return LinearBound(a.new_zeros(*rows, *graph.in_shape), constant)
    return LinearBound(coefficients[0], constant)


def least(graph: Graph, region: Region, bounds: Sequence[Interval], value: int, a: Tensor) -> Tensor:
    """The least [n, S] that coefficients ``a`` [n, S, *shape] of a value can come to, by either slope."""
    best = None
    for parallel in (False, True):
        bound = backward(graph, bounds, value, a, parallel=parallel)
        this = region.least(bound.a) + bound.constant
        best = this if best is None else torch.maximum(best, this)
    assert best is not None
    return best


def refined(graph: Graph, region: Region) -> list[Interval]:
    """Intervals of every value, those of bends' inputs from linear bounds where their sign is open."""
    bounds: list[Interval] = [(region.low, region.high)]
    for value in sorted(graph.bent):
        bounds = steps_from(Graph(graph.steps[:value], graph.in_shape), bounds)
        bounds[value] = _refined(graph, region, bounds, value)
    return steps_from(graph, bounds)


def _refined(graph: Graph, region: Region, bounds: Sequence[Interval], value: int) -> Interval:
    """Bounds on one value by following every number of it back whose sign is open."""
    low, high = (end.flatten(1).clone() for end in bounds[value])
    open_ = (low < 0) & (high > 0)
    if bool(open_.any()):
        # Each image's open numbers first; where it has fewer than others, settled ones fill up.
        numbers = open_.byte().argsort(dim=1, descending=True, stable=True)[:, : int(open_.sum(1).max())]
        at_once = max(1, COEFFICIENTS // (len(low) * max(graph.shape(v).numel() for v in range(value + 1))))
        for chosen in numbers.split(at_once, dim=1):
            rows = torch.zeros(*chosen.shape, low.shape[1], dtype=low.dtype, device=low.device)
            rows = rows.scatter(2, chosen.unsqueeze(2), 1.0).unflatten(2, graph.shape(value))
            lower, upper = _both_ends(graph, region, bounds, value, rows)
            low.scatter_(1, chosen, torch.maximum(low.gather(1, chosen), lower))
            high.scatter_(1, chosen, torch.minimum(high.gather(1, chosen), upper))
    shape = graph.shape(value)
    return low.unflatten(1, shape), high.unflatten(1, shape)


def _both_ends(
    graph: Graph, region: Region, bounds: Sequence[Interval], value: int, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """A lower and an upper bound [n, S] on ``rows`` of a value."""
    bound = backward(graph, bounds, value, torch.cat([rows, -rows], dim=1))
    below, above = (region.least(bound.a) + bound.constant).chunk(2, dim=1)
    return below, -above


def ahead(y: Tensor, classes: int) -> Tensor:
    """Coefficients [n, classes, classes] of class y's lead over each class; zeros for its own row."""
    identity = torch.eye(classes, dtype=torch.float64, device=y.device)
    return identity[y].unsqueeze(1) - identity


def margins(graph: Graph, region: Region, bounds: Sequence[Interval], y: Tensor) -> Tensor:
    """Lower bounds [n, classes] on how far class y is ahead of each; infinite for y itself."""
    last = len(graph.steps)
    leads = least(graph, region, bounds, last, ahead(y, graph.shape(last).numel()))
    return leads.scatter(1, y[:, None], torch.inf)


FOLLOWED = 20_000  # numbers before bends, up to which each whose sign is open is followed back
AT_ONCE = 16  # images


@torch.no_grad()
def least_margins(graph: Graph, region: Region, y: Tensor) -> Tensor:
    """Lower bounds [n, classes] on class y's lead over each class in float32; infinite for y itself.

    Images that are answered wrongly have some bound of 0 or less anyway, and are not followed.

    Args:
        region: of n images; y: their labels.
    """
    return torch.cat(
        [_of_some(graph, region[i : i + AT_ONCE], y[i : i + AT_ONCE]) for i in range(0, len(y), AT_ONCE)]
    )


def follows_all(graph: Graph) -> bool:
    """True if the network is small enough for linear bounds on every value, not on its margins alone."""
    return sum(graph.shape(value).numel() for value in graph.bent) <= FOLLOWED


def _of_some(graph: Graph, region: Region, y: Tensor) -> Tensor:
    bounds = intervals(graph, region)
    logits = graph.logits(region.centre)
    leads = margins_from_logits(*bounds[-1], y)
    off = off_by_rounding(logits)
    leads = (leads - off).scatter(1, y[:, None], torch.inf)
    right = logits.argmax(1) == y
    rows = (right & (leads.amin(1) <= 0)).nonzero().squeeze(1)
    if len(rows):
        followed = _followed(graph, region[rows], y[rows]) - off[rows]
        leads[rows] = torch.maximum(leads[rows], followed)
    return leads


def _followed(graph: Graph, region: Region, y: Tensor) -> Tensor:
    bounds_of = refined if follows_all(graph) else intervals
    return margins(graph, region, bounds_of(graph, region), y)
