"""How an attacker runs a defence under relaxed operators: as much as it can take."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor

from attacks.relaxation import apart, custom, cutting
from attacks.relaxation.inside import WITHOUT
from attacks.relaxation.mode import RelaxedMode
from attacks.relaxation.record import Record

Result = TypeVar("Result")

# What is tried in turn, the first that works from there on: everything; with saved tensors kept aside that
# the defence changes in place; with its own cuts of the graph, which it may rely on; with its operators as
# they are, but graphs kept that it frees; nothing.
_EVERYTHING, _ASIDE, _CUTS, _GRAPHS, _NOTHING = range(5)


class Relaxation:
    """Runs forwards with relaxed operators, and their backwards.

    Attributes:
        record: what was met, where it is measuring.
        level: 0 as long as everything can be relaxed; 4 where nothing can.
        looks_inside: whether an answer whose gradient is zero may have another one, by what it was made of.
    """

    def __init__(self, *, measuring: bool = False):
        self.record = Record(measuring)
        self.level = _EVERYTHING
        self.looks_inside = True
        self._running: RelaxedMode | None = None

    def attempt(self, answer: Callable[[], Result]) -> Result:
        """``answer()``, forward and backward, with as much relaxed as works without an error.

        Raises:
            Exception: what ``answer`` raises with nothing relaxed.
        """
        while self.level < _NOTHING:
            met = {name: vars(entry).copy() for name, entry in self.record.met.items()}
            try:
                with self._around():
                    return answer()
            except Exception:  # a defence may rely on what is relaxed, in any way
                self.level += 1
                for name in list(self.record.met):
                    if name in met:
                        vars(self.record.met[name]).update(met[name])
                    else:
                        del self.record.met[name]
        return answer()

    @property
    def given_up(self) -> bool:
        """Whether nothing can be relaxed: a defence without a gradient has none then."""
        return self.level == _NOTHING

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Around the forward within ``answer``."""
        if self.level == _NOTHING:
            yield
            return
        self._running = self._mode() if self.level < _GRAPHS else None
        try:
            with cutting.graphs_kept(), self._running or nullcontext():
                yield
        finally:
            self._running = None

    def answered(self, answer: Tensor, *, inside: bool = False) -> Tensor:
        """Within ``forward``: the defence's answer [..., classes], with the gradient of what it was made of.

        ``inside``: even if it has a gradient of its own. The answer itself, where none is found.
        """
        if self._running is None:
            return answer
        with torch._C.DisableTorchFunction():
            if answer.requires_grad and not inside:
                return self._running.inside.mended(answer, self.record)
            behind = self._running.inside.behind(answer, self.record.note(WITHOUT))
        if inside:
            self.looks_inside = behind is not None
        return answer if behind is None else behind

    def _mode(self) -> RelaxedMode:
        return RelaxedMode(self.record, keep_cuts=self.level >= _CUTS)

    @contextmanager
    def _around(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.level < _GRAPHS:
                stack.enter_context(custom.opened(self.record, self._mode))
                stack.enter_context(apart.reached(self.record))
            if self.level < _CUTS:
                stack.enter_context(cutting.cuts_mended(self.record))
            if self.level > _EVERYTHING:
                stack.enter_context(torch.autograd.graph.allow_mutation_on_saved_tensors())
            yield
