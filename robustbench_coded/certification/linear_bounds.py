"""Linear bounds followed backwards through a graph (CROWN, arXiv 1811.00866), in windows of convolutions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from robustbench_coded.certification.affine import Bend, Convolution, Interval, Rising, Scale
from robustbench_coded.certification.graph import Graph, Step
from robustbench_coded.certification.intervals import Region, intervals, steps_from, times

# Linear bounds on the outputs of convolutions from the windows that they look at alone.
#
# One output of a stack of convolutions depends on a small window of the image. Followed back in that window
# it costs a fraction of what it costs in the whole image. Windows that reach over an edge hold zeros there,
# which a mask keeps at zero on the way back.


@dataclass(frozen=True)
class Window:
    """What one output sees of a value: ``size`` numbers each way, from stride * its place - padding on."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class Stack:
    """The way from the images to the value that is a stack of convolutions' output.

    Attributes:
        values: its values in order, 0 first.
        windows: of each of ``values``; that of the last is one number.
    """

    values: tuple[int, ...]
    windows: tuple[Window, ...]


def stack_of(graph: Graph, value: int) -> Stack | None:
    """The stack of convolutions that ends in a value; None for any other, and where windows save nothing."""
    values, windows = [value], [Window((1, 1), (1, 1), (0, 0))]
    if len(graph.shape(value)) != 3:
        return None
    while values[-1]:
        step = graph.steps[values[-1] - 1]
        if len(step.inputs) != 1 or not isinstance(step.op, Bend | Scale | Convolution):
            return None
        if isinstance(step.op, Scale) and max((*step.op.scale.shape[1:], *step.op.shift.shape[1:], 1)) > 1:
            return None  # it tells places apart
        values.append(step.inputs[0])
        windows.append(_seen(windows[-1], step.op) if isinstance(step.op, Convolution) else windows[-1])
    area = windows[-1].size[0] * windows[-1].size[1]
    if 2 * area > graph.in_shape[1:].numel():
        return None
    return Stack(tuple(reversed(values)), tuple(reversed(windows)))


def _seen(window: Window, conv: Convolution) -> Window:
    """The window of a convolution's input that a window of its output sees."""
    (stride, padding, dilation, _), kernel = conv.rest, conv.weight.shape[2:]
    return Window(
        tuple((window.size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)),  # type: ignore[arg-type]
        tuple(window.stride[i] * stride[i] for i in (0, 1)),  # type: ignore[arg-type]
        tuple(window.padding[i] * stride[i] + padding[i] for i in (0, 1)),  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class Local:
    """The problems of single outputs, one "image" each: what `linear_bounds.backward` takes."""

    graph: Graph
    region: Region
    bounds: tuple[Interval | None, ...]


class Windows:
    """Cuts the windows of chosen outputs out of images and bounds.

    Args:
        bounds: of every value before the stack's last.
    """

    def __init__(self, graph: Graph, stack: Stack, region: Region, bounds: Sequence[Interval]):
        self.graph, self.stack, self.region, self.bounds = graph, stack, region, bounds
        self.places = graph.shape(stack.values[-1])[1:]

    def of(self, image: Tensor, place: Tensor) -> Local:
        """The problems of outputs at ``place`` (row * width + column) of ``image``, both int64 [m]."""
        row, column = place // self.places[1], place % self.places[1]
        steps: list[Step] = []
        bounds: list[Interval | None] = [None]
        for value, window in zip(self.stack.values[1:], self.stack.windows[:-1], strict=True):
            step = self.graph.steps[value - 1]
            before = step.inputs[0]
            if isinstance(step.op, Convolution):
                inside = self._inside(self.graph.shape(before), window, row, column)
                # Zeros beyond the edge are no values of the step before: nothing goes back through them.
                steps.append(
                    Step(Scale(inside, torch.zeros_like(inside)), (len(steps),), self._shape(before, window))
                )
                bounds.append(None)
                stride, _, dilation, groups = step.op.rest
                weight, bias = step.op.weight, step.op.bias
                shape = torch.Size((self.graph.shape(before)[0], *window.size))
                conv = Convolution(weight, bias, stride, (0, 0), dilation, groups, shape)
                size = conv.forward(weight.new_zeros(1, *shape)).shape[1:]
                steps.append(Step(conv, (len(steps),), size))
            else:
                if isinstance(step.op, Bend):
                    bounds[-1] = self._cut_pair(self.bounds[before], window, image, row, column)
                steps.append(Step(step.op, (len(steps),), self._shape(value, window)))
            bounds.append(None)
        first = self.stack.windows[0]
        cut = [self._cut(end, first, image, row, column) for end in self._ends()]
        l2 = None if self.region.l2 is None else self.region.l2[image]
        region = Region(cut[0], cut[1], cut[2], l2, self.region.unit)
        return Local(Graph(tuple(steps), self._shape(0, first)), region, tuple(bounds))

    def _ends(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.region.centre, self.region.low, self.region.high

    def _shape(self, value: int, window: Window) -> torch.Size:
        return torch.Size((self.graph.shape(value)[0], *window.size))

    def _indices(self, window: Window, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [m, h] and columns [m, w] of each window; beyond the edge they are out of range."""
        return tuple(  # type: ignore[return-value]
            (at * window.stride[i] - window.padding[i]).unsqueeze(1)
            + torch.arange(window.size[i], device=at.device)
            for i, at in enumerate((row, column))
        )

    def _inside(self, shape: torch.Size, window: Window, row: Tensor, column: Tensor) -> Tensor:
        rows, columns = self._indices(window, row, column)
        within = [(at >= 0) & (at < size) for at, size in ((rows, shape[1]), (columns, shape[2]))]
        return (within[0].unsqueeze(2) & within[1].unsqueeze(1)).unsqueeze(1).double()

    def _cut(self, x: Tensor, window: Window, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The windows [m, C, h, w] of x [n, C, H, W]; what lies beyond the edge repeats it."""
        rows, columns = self._indices(window, row, column)
        rows, columns = rows.clamp(0, x.shape[2] - 1), columns.clamp(0, x.shape[3] - 1)
        return x[image[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def _cut_pair(
        self, pair: Interval, window: Window, image: Tensor, row: Tensor, column: Tensor
    ) -> Interval:
        low, high = (self._cut(end, window, image, row, column) for end in pair)
        return low, high


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
