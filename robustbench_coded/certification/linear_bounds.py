"""Linear bounds followed backwards through a graph (CROWN, arXiv 1811.00866)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_coded.certification.affine import Bend, Interval, Rising
from robustbench_coded.certification.graph import Graph
from robustbench_coded.certification.intervals import (
    UNIT,
    Region,
    intervals,
    largest,
    of_images,
    own_rounding,
    steps_from,
    times,
)

# Linear bounds: margins followed backwards through a network (CROWN, arXiv 1811.00866).
#
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
    rounded: bool = False,
) -> LinearBound:
    """Coefficients of one value as coefficients of the images: a lower bound.

    Args:
        bounds: of every value that something with a bend is applied to.
        value: which value; the last one is the logits.
        a: [n, S, *shape].
        parallel: lines below with the slope of those above (arXiv 1711.00851), not the nearer branch.
        rounded: of the value that float32 has; ``bounds`` are of such values, too. What float32 does to a
            step is a perturbation of the step's own, followed back from there.
    """
    rows = a.shape[:2]
    constant = a.new_zeros(rows)
    coefficients: dict[int, Tensor] = {value: a}
    for made in range(value, 0, -1):
        if made not in coefficients:
            continue
        a, step = coefficients.pop(made), graph.steps[made - 1]
        own = own_rounding(step, [bounds[i] for i in step.inputs], bounds[made]) if rounded else None
        if own is not None:
            constant = constant - times(a.abs(), own)
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
    if rounded:
        constant = constant - times(coefficients[0].abs(), UNIT * largest(bounds[0]))
    return LinearBound(coefficients[0], constant)


def least(
    graph: Graph,
    region: Region,
    bounds: Sequence[Interval],
    value: int,
    a: Tensor,
    *,
    rounded: bool = False,
) -> Tensor:
    """The least [n, S] that coefficients ``a`` [n, S, *shape] of a value can come to, by either slope."""
    found = None
    for parallel in (False, True):
        bound = backward(graph, bounds, value, a, parallel=parallel, rounded=rounded)
        this = region.least(bound.a) + bound.constant
        found = this if found is None else torch.maximum(found, this)
    assert found is not None
    return found


def refined(graph: Graph, region: Region, *, rounded: bool = False) -> list[Interval]:
    """Intervals of every value, those of bends' inputs from linear bounds where their sign is open.

    Args:
        rounded: of the values that float32 has.
    """
    found: list[Interval] = [of_images(region, rounded=rounded)]
    known: dict[int, Interval] = {}
    for value in graph.bent:
        found = steps_from(_until(graph, value), found, known, rounded=rounded)
        known[value] = _refined(graph, region, found, value, rounded=rounded)
        found[value] = known[value]
    return intervals(graph, region, known, rounded=rounded)


def _refined(
    graph: Graph, region: Region, bounds: Sequence[Interval], value: int, *, rounded: bool
) -> Interval:
    """Bounds on one value by following every number of it back whose sign is open."""
    low, high = (end.flatten(1).clone() for end in bounds[value])
    open_ = (low < 0) & (high > 0)
    if bool(open_.any()) and not (region.l2 is None and _exact(graph, value)):
        # Each image's open numbers first; where it has fewer than others, settled ones fill up.
        numbers = open_.byte().argsort(dim=1, descending=True, stable=True)[:, : int(open_.sum(1).max())]
        at_once = max(1, COEFFICIENTS // (len(low) * max(graph.shape(v).numel() for v in range(value + 1))))
        for chosen in numbers.split(at_once, dim=1):
            rows = torch.zeros(*chosen.shape, low.shape[1], dtype=low.dtype, device=low.device)
            rows = rows.scatter(2, chosen.unsqueeze(2), 1.0).unflatten(2, graph.shape(value))
            lower, upper = _both_ends(graph, region, bounds, value, rows, rounded=rounded)
            low.scatter_(1, chosen, torch.maximum(low.gather(1, chosen), lower))
            high.scatter_(1, chosen, torch.minimum(high.gather(1, chosen), upper))
    shape = graph.shape(value)
    return low.unflatten(1, shape), high.unflatten(1, shape)


def _both_ends(
    graph: Graph,
    region: Region,
    bounds: Sequence[Interval],
    value: int,
    rows: Tensor,
    *,
    rounded: bool = False,
) -> tuple[Tensor, Tensor]:
    """A lower and an upper bound [n, S] on ``rows`` of a value."""
    bound = backward(graph, bounds, value, torch.cat([rows, -rows], dim=1), rounded=rounded)
    below, above = (region.least(bound.a) + bound.constant).chunk(2, dim=1)
    return below, -above


def _exact(graph: Graph, value: int) -> bool:
    """Whether intervals are exact at a value: one sum of pixels, that nothing with a bend comes before."""
    sums, before = 0, [value]
    while before and before[-1]:
        step = graph.steps[before[-1] - 1]
        if isinstance(step.op, Bend | Rising) or len(step.inputs) > 1:
            return False
        sums += not step.op.diagonal
        before.append(step.inputs[0])
    return sums <= 1


def _until(graph: Graph, value: int) -> Graph:
    return Graph(graph.steps[:value], graph.in_shape)


def ahead(y: Tensor, classes: int) -> Tensor:
    """Coefficients [n, classes, classes] of class y's lead over each class; zeros for its own row."""
    one = torch.eye(classes, dtype=torch.float64, device=y.device)
    return one[y].unsqueeze(1) - one


def margins(
    graph: Graph, region: Region, bounds: Sequence[Interval], y: Tensor, *, rounded: bool = False
) -> Tensor:
    """Lower bounds [n, classes] on how far class y is ahead of each; infinite for y itself."""
    last = len(graph.steps)
    found = least(graph, region, bounds, last, ahead(y, graph.shape(last).numel()), rounded=rounded)
    return found.scatter(1, y[:, None], torch.inf)
