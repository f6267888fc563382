"""Code that neither the mode nor autograd sees: numpy, PIL, files, Python.

What leaves torch is remembered. A tensor without a history that comes back with as many elements, and
agrees with what left (a correlation of at least 0.5, channels first or last), continues with the gradient
of what left, times the slope of the regression between the two: a filter or a codec counts as the identity.
"""

from collections import deque
from typing import Any

import torch
from torch import Tensor

from attacks.relaxation.record import UNSEEN, Call, Handler, Operator, Relaxing
from attacks.relaxation.shadow import Shadow, attach, follows, graph_of
from attacks.relaxation.surrogate_gradients import sloped

ALIKE = 0.5  # correlation of what returns with what left
MANY, ALIKE_AMONG_MANY = 256, 0.25  # of so many elements of the same shape, by chance not even a half of it
FEWEST = 8  # elements that a correlation says anything about
DEPARTURES = 4096  # departures


class Departed:
    """Values that left torch in one forward pass, as rows of one image each where it was a batch."""

    def __init__(self) -> None:
        self._rows: dict[int, deque[tuple[Tensor, Operator | None]]] = {}
        # By id; kept here and not on the tensor, which may outlive this forward's graph.
        self._checked: dict[int, tuple[Tensor, Tensor]] = {}

    def __bool__(self) -> bool:
        return bool(self._rows)

    def leave(self, x: Tensor, op: Operator | None) -> None:
        """Remembers ``x``, and each element of its first axis."""
        x = graph_of(x).float()
        for part in (x, *(x if x.ndim > 1 and 1 < len(x) <= DEPARTURES else ())):
            if part.numel() >= FEWEST:
                self._rows.setdefault(part.numel(), deque(maxlen=DEPARTURES)).append((part, op))

    def returned(self, value: Tensor) -> Tensor:
        """``value`` with a gradient, where it is what left before; else itself."""
        if (checked := self._checked.get(id(value))) is not None:
            return checked[1]
        if follows(value) or value.requires_grad:
            return value
        if value.numel() not in self._rows or value.is_complex():
            return value
        shadowed = self._like(value)
        shadowed = value if shadowed is None else shadowed
        self._checked[id(value)] = (value, shadowed)
        return shadowed

    def _like(self, value: Tensor) -> Tensor | None:
        best, chosen = ALIKE, None
        numbers = value.detach().float()
        for x, op in self._rows.get(value.numel(), ()):
            for shown in _layouts(x, value):
                correlation, slope = _regression(shown.detach(), numbers)
                many = shown.shape == x.shape and value.numel() >= MANY
                if correlation > best or (chosen is None and many and correlation > ALIKE_AMONG_MANY):
                    best, chosen = correlation, (shown, slope, op)
        if chosen is None:
            return None
        x, slope, op = chosen
        with torch.enable_grad():
            if value.is_floating_point():
                return sloped(value, x.to(value.dtype), slope, op)
            number = sloped(numbers, x, slope, op)
        # Not on the tensor itself: it may be one that the defence keeps, and outlive this graph.
        return attach(value.detach(), Shadow(number))


def _layouts(x: Tensor, value: Tensor) -> list[Tensor]:
    """``x`` in the shapes in which it may come back as ``value``."""
    if x.shape == value.shape:
        return [x]
    shown = []
    if x.ndim >= 3:
        shown += [x.movedim(-3, -1), x.movedim(-1, -3)]
    shown = [each for each in shown if each.shape == value.shape]
    if not shown and x.squeeze().shape == value.squeeze().shape:
        shown = [x.reshape(value.shape)]
    return shown


def _regression(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Correlation of two tensors, and the slope of y on x."""
    x, y = x.flatten().float(), y.flatten().float()
    x, y = x - x.mean(), y - y.mean()
    xx, yy, xy = float(x @ x), float(y @ y), float(x @ y)
    if xx <= 0 or yy <= 0:
        return 0.0, 0.0
    return xy / (xx * yy) ** 0.5, xy / xx


def to_numpy(mode: Relaxing, call: Call) -> Any:
    """numpy(), np.asarray, tolist; torch.save and pickle read the storage."""
    x = call.args[0]
    if not follows(x):
        return UNSEEN
    mode.departed.leave(x, mode.record.note("numpy"))
    with torch.no_grad():
        return call.func(x.detach(), *call.args[1:], **call.kwargs)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("numpy", "__array__", "tolist", "__dlpack__", "untyped_storage"), to_numpy),
}
