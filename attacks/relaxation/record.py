"""One call of a torch function by a defence, and the record of the operators that hide its gradient."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

CUT = 0.5  # share of an operator's elements without a useful gradient, from which on attacks need another one


@dataclass
class Operator:
    """One operator that was given another backward.

    Attributes:
        name: as a researcher calls it: "softmax", "round", "detach".
        calls: in one forward.
        flowed: in how many of these calls a gradient came back through it that was not zero.
        cut: share of its elements whose own gradient is zero or next to it, the mean over calls.
        scale: mean absolute size of its inputs, the mean over calls; None where it has none.
    """

    name: str
    calls: int = 0
    flowed: int = 0
    cut: float = 0.0
    scale: float | None = None

    @property
    def hides(self) -> bool:
        """True if the loss depends on it, and most of its own gradient is lost."""
        return self.flowed > 0 and self.cut >= CUT

    def plain(self) -> dict[str, Any]:
        """Fit for JSON."""
        scale = None if self.scale is None else float(f"{self.scale:.3g}")
        return {"operator": self.name, "calls": self.calls, "cut": round(self.cut, 3), "scale": scale}


@dataclass
class Record:
    """The record of operators so far.

    Attributes:
        measuring: whether shares and scales are measured, at a small cost; if False, nothing is stored.
        operators: by name, in the order of the first call.
    """

    measuring: bool = False
    operators: dict[str, Operator] = field(default_factory=dict)

    def note(
        self, name: str, cut: Tensor | float = 1.0, scale: Tensor | float | None = None
    ) -> Operator | None:
        """Takes note of one call; ``cut`` and ``scale`` are averaged over their elements."""
        if not self.measuring:
            return None
        op = self.operators.setdefault(name, Operator(name))
        op.cut += (_mean(cut) - op.cut) / (op.calls + 1)
        if scale is not None:
            before = op.scale if op.scale is not None else 0.0
            op.scale = before + (_mean(scale) - before) / (op.calls + 1)
        op.calls += 1
        return op

    def hiding(self) -> list[Operator]:
        """Those that hide the gradient, the most frequent first."""
        return sorted((op for op in self.operators.values() if op.hides), key=lambda op: -op.calls)


def _mean(value: Tensor | float) -> float:
    return float(value.detach().cpu().double().mean()) if isinstance(value, Tensor) else float(value)


UNSEEN: Any = NotImplemented  # what a handler answers that leaves the call as it is


@dataclass(frozen=True)
class Call:
    """Attributes:
    func: the torch function.
    name: its name, without the marks of in-place and private variants.
    args, kwargs: as given.
    """

    func: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """An argument, by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def run(self) -> Any:
        """The answer with whatever gradient torch has for it."""
        return self.func(*self.args, **self.kwargs)

    def real(self) -> Any:
        """The answer without a gradient."""
        with torch.no_grad():
            return self.func(*self.args, **self.kwargs)


class Relaxing(Protocol):
    """The interface of the mode that handlers use."""

    record: Record
    departed: Any  # tensors that have left torch


Handler = Callable[[Relaxing, Call], Any]  # answers UNSEEN for what it does not change


def first(call: Call) -> Tensor:
    """The input of a function of one tensor."""
    return call.arg(0, "input")
