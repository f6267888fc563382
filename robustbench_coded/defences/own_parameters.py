"""Parameters that a defence brings along, made constants: attackers differentiate in the input alone.

The parameters of a module ask for gradients unless told otherwise. An answer made of them has a graph even
where nothing leads back to the input (a codebook read at its nearest entry), which plain attacks cannot
differentiate and relaxed operators would take for one that does.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class OwnParameters:
    """Finds the parameters behind the first answer that is differentiated, and makes them constants.

    A defence that needs their gradients, for it adapts them to its inputs, answers otherwise without them or
    not at all: it keeps them. All get theirs back when this object goes, for they may be the parameters of
    somebody's training.
    """

    def __init__(self) -> None:
        self._constants: list[Tensor] | None = None  # not looked for yet

    def __del__(self) -> None:
        self._let_go()

    def answered(self, answer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """``answer(x)``."""
        if self._constants is None and x.requires_grad and torch.is_grad_enabled():
            return self._first(answer, x)
        try:
            return answer(x)
        except Exception:
            if not self._constants:
                raise
            self._let_go()  # it may adapt to a few of its inputs alone
            return answer(x)

    def _first(self, answer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        met = _Parameters()
        with met:
            given = answer(x)
        if not isinstance(given, Tensor):  # whoever asked says so
            return given
        inputs = {id(leaf) for leaf in (x, *_leaves(x))}
        found = {id(leaf): leaf for leaf in (*met.found, *_leaves(given)) if id(leaf) not in inputs}
        self._constants = [leaf.requires_grad_(False) for leaf in found.values()]
        if not found:
            return given
        try:
            again = answer(x)
        except Exception:
            again = None
        if again is not None and torch.equal(given, again):
            return again
        self._let_go()
        return given

    def _let_go(self) -> None:
        for each in self._constants or ():
            each.requires_grad_(True)
        self._constants = []


class _Parameters(TorchFunctionMode):
    """Takes down the parameters that operators are given, also where no graph is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.found += _parameters((*args, *(kwargs or {}).values()))
        return func(*args, **(kwargs or {}))


def _parameters(values: Any) -> Iterator[Tensor]:
    with torch._C.DisableTorchFunction():
        for value in values:
            if isinstance(value, nn.Parameter) and value.requires_grad:
                yield value
            elif isinstance(value, list | tuple):
                yield from _parameters(value)


def _leaves(answer: Tensor) -> Iterator[Tensor]:
    """The leaves of its graph: those of modules in TorchScript, too, whose operators no mode sees."""
    waiting, met = [answer.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in met:
            continue
        met.add(node)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):
            yield leaf
        waiting += [before for before, _ in node.next_functions]
