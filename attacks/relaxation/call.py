"""One call of a torch function by a defence, as the families of operators look at it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from attacks.relaxation.record import Record

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
    """What handlers may use of the mode that calls them."""

    record: Record
    keep_cuts: bool  # leave detach, no_grad and hooks to the defence
    departed: Any  # tensors that have left torch


Handler = Callable[[Relaxing, Call], Any]  # answers UNSEEN for what it does not change


def first(call: Call) -> Tensor:
    """The input of a function of one tensor."""
    return call.arg(0, "input")
