"""Linear bounds on the outputs of convolutions from the windows that they look at alone.

One output of a stack of convolutions depends on a small window of the image. Followed back in that window it
costs a fraction of what it costs in the whole image. Windows that reach over an edge hold zeros there, which
a mask keeps at zero on the way back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_coded.certification.affine import Convolution, Scale
from robustbench_coded.certification.bends import Bend, Interval
from robustbench_coded.certification.graph import Graph, Step
from robustbench_coded.certification.region import Region


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
