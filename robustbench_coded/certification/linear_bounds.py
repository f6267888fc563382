"""Linear bounds: margins followed backwards through a network (CROWN, arXiv 1811.00866).

Every number that a bend is applied to lies between two bounds, and on them the bend lies between two lines.
So a linear function of the logits, followed backwards step by step, is bounded below by a linear function of
the pixels, whose least value over an image's region is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from robustbench_coded.certification.bends import Bend, Interval, Rising
from robustbench_coded.certification.graph import Graph
from robustbench_coded.certification.intervals import intervals, steps_from
from robustbench_coded.certification.region import Region, times
from robustbench_coded.certification.windows import Stack, Windows, stack_of

COEFFICIENTS = 2**20  # of one value that are followed back at once, in numbers: more leave the cache


@dataclass(frozen=True)
class LinearBound:
    """a . x + constant, no larger than what was followed back: a is [n, S, C, H, W], constant [n, S]."""

    a: Tensor
    constant: Tensor


def backward(
    graph: Graph,
    bounds: Sequence[Interval | None],
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
            made_low, made_high = step.op.interval(*_known(bounds, step.inputs[0]))
            constant = constant + times(a.clamp(min=0), made_low) + times(a.clamp(max=0), made_high)
            continue
        if isinstance(step.op, Bend):
            lines = step.op.lines(*_known(bounds, step.inputs[0]), parallel=parallel)
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


def least(graph: Graph, region: Region, bounds: Sequence[Interval | None], value: int, a: Tensor) -> Tensor:
    """The least [n, S] that coefficients ``a`` [n, S, *shape] of a value can come to, by either slope."""
    found = None
    for parallel in (False, True):
        bound = backward(graph, bounds, value, a, parallel=parallel)
        this = region.least(bound.a) + bound.constant
        found = this if found is None else torch.maximum(found, this)
    assert found is not None
    return found


def refined(graph: Graph, region: Region) -> list[Interval]:
    """Intervals of every value, those of bends' inputs from linear bounds where their sign is open."""
    found: list[Interval] = [(region.low, region.high)]
    known: dict[int, Interval] = {}
    for value in graph.bent:
        found = steps_from(_until(graph, value), found, known)
        known[value] = _refined(graph, region, found, value)
        found[value] = known[value]
    return intervals(graph, region, known)


def _refined(graph: Graph, region: Region, bounds: Sequence[Interval], value: int) -> Interval:
    """Bounds on one value by following every number of it back whose sign is open."""
    low, high = (end.flatten(1).clone() for end in bounds[value])
    open_ = (low < 0) & (high > 0)
    if bool(open_.any()) and not (region.l2 is None and _exact(graph, value)):
        stack = stack_of(graph, value)
        follow = _in_images if stack is None else partial(_in_windows, stack=stack)
        follow(graph, region, bounds, value, open_, low, high)
    shape = graph.shape(value)
    return low.unflatten(1, shape), high.unflatten(1, shape)


def _in_images(
    graph: Graph,
    region: Region,
    bounds: Sequence[Interval],
    value: int,
    open_: Tensor,
    low: Tensor,
    high: Tensor,
) -> None:
    """Tightens ``low`` and ``high`` [n, numbers] in place where ``open_``."""
    # Each image's open numbers first; where it has fewer than others, settled ones fill up.
    numbers = open_.byte().argsort(dim=1, descending=True, stable=True)[:, : int(open_.sum(1).max())]
    at_once = max(1, COEFFICIENTS // (len(low) * max(graph.shape(v).numel() for v in range(value + 1))))
    for chosen in numbers.split(at_once, dim=1):
        rows = torch.zeros(*chosen.shape, low.shape[1], dtype=low.dtype, device=low.device)
        rows = rows.scatter(2, chosen.unsqueeze(2), 1.0).unflatten(2, graph.shape(value))
        lower, upper = _both_ends(graph, region, bounds, value, rows)
        low.scatter_(1, chosen, torch.maximum(low.gather(1, chosen), lower))
        high.scatter_(1, chosen, torch.minimum(high.gather(1, chosen), upper))


def _in_windows(
    graph: Graph,
    region: Region,
    bounds: Sequence[Interval],
    value: int,
    open_: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    stack: Stack,
) -> None:
    """Likewise, each number in its own window."""
    windows = Windows(graph, stack, region, bounds)
    image, number = open_.nonzero(as_tuple=True)
    places = graph.shape(value)[1:].numel()
    largest = max(
        graph.shape(v)[0] * w.size[0] * w.size[1] for v, w in zip(stack.values, stack.windows, strict=True)
    )
    for i, j in zip(image.split(COEFFICIENTS // largest), number.split(COEFFICIENTS // largest), strict=True):
        local = windows.of(i, j % places)
        last = len(local.graph.steps)
        rows = torch.zeros(len(i), 1, *local.graph.shape(last), dtype=low.dtype, device=low.device)
        rows[torch.arange(len(i)), 0, j // places] = 1.0
        lower, upper = _both_ends(local.graph, local.region, local.bounds, last, rows)
        low[i, j] = torch.maximum(low[i, j], lower.squeeze(1))
        high[i, j] = torch.minimum(high[i, j], upper.squeeze(1))


def _both_ends(
    graph: Graph, region: Region, bounds: Sequence[Interval | None], value: int, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """A lower and an upper bound [n, S] on ``rows`` of a value."""
    bound = backward(graph, bounds, value, torch.cat([rows, -rows], dim=1))
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


def _known(bounds: Sequence[Interval | None], value: int) -> Interval:
    known = bounds[value]
    assert known is not None
    return known


def ahead(y: Tensor, classes: int) -> Tensor:
    """Coefficients [n, classes, classes] of class y's lead over each class; zeros for its own row."""
    one = torch.eye(classes, dtype=torch.float64, device=y.device)
    return one[y].unsqueeze(1) - one


def margins(graph: Graph, region: Region, bounds: Sequence[Interval], y: Tensor) -> Tensor:
    """Lower bounds [n, classes] on how far class y is ahead of each; infinite for y itself."""
    last = len(graph.steps)
    found = least(graph, region, bounds, last, ahead(y, graph.shape(last).numel()))
    return found.scatter(1, y[:, None], torch.inf)
