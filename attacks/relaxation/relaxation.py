"""Runs a defence under as many relaxed operators as it can take.

``RelaxedMode`` runs the defence as it is while operators that hide its gradient have another backward.
"""

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from attacks.accelerator import process_lock
from attacks.gradients import OWN_FAULT, raise_machine_fault
from attacks.relaxation import saturation, selection, steps, stop_gradients, untraced_code
from attacks.relaxation.record import UNSEEN, Call, Handler, Record
from attacks.relaxation.shadow import follow, replaced, shadow_of, tensors_in, written

_FAMILIES = (steps, selection, saturation, stop_gradients, untraced_code)
HANDLERS: dict[str, Handler] = {
    name: handler for family in _FAMILIES for name, handler in family.HANDLERS.items()
}


class RelaxedMode(TorchFunctionMode):
    """Answers every call bit for bit as torch does.

    Args:
        record: takes note of the operators.
        handlers: of the functions that have another backward, by name.

    Raises:
        Exception: what torch alone raises; or a fault of csrobust, with the note OWN_FAULT: anything but a
            RuntimeError, which torch raises where a handler asks for what it cannot compute.
    """

    def __init__(self, record: Record, handlers: Mapping[str, Handler] = HANDLERS):
        super().__init__()
        self.record = record
        self.handlers = handlers
        self.departed = untraced_code.Departed()
        self.graph_is_off = False
        self._shadows = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        try:
            return self._answer(func, args, kwargs or {})
        except Exception as error:
            raise_machine_fault(error)
            if not isinstance(error, RuntimeError):
                func(*args, **(kwargs or {}))  # raises what torch alone raises
                error.add_note(OWN_FAULT)
            raise

    def _answer(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.departed:
            args = replaced(args, self.departed.returned)
            kwargs = {key: replaced(value, self.departed.returned) for key, value in kwargs.items()}
        name = _name(func)
        in_place = name.endswith("_") and not name.endswith("__")
        if torch.is_grad_enabled() or name in stop_gradients.HANDLERS:
            if in_place and name not in self.handlers:
                answer = self._in_place(func, name[:-1], args, kwargs)
            else:
                answer = self._handled(Call(func, name, args, kwargs))
            if answer is not UNSEEN:
                self._shadows = self._shadows or shadow_of(answer) is not None
                return answer
        body = _body(func)
        if body is not None:
            with self:
                return body(*args, **kwargs)
        return self._plain(Call(func, name, args, kwargs), in_place)

    def _handled(self, call: Call) -> Any:
        handler = self.handlers.get(call.name)
        if handler is None:
            return UNSEEN
        try:
            answer = handler(self, call)
        except RuntimeError as error:
            raise_machine_fault(error)
            # What one operator cannot be given is no reason to give up all others: torch answers alone.
            return UNSEEN
        if isinstance(answer, tuple):  # of values and indices, whose indices may have a shadow
            self._shadows = self._shadows or any(shadow_of(part) is not None for part in answer)
        return answer

    def _in_place(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``x.round_()`` as ``x.copy_(x.round())``."""
        functional_form = getattr(torch.Tensor, name, None)
        if functional_form is None or not args or not isinstance(args[0], Tensor):
            return UNSEEN
        answer = self._handled(Call(functional_form, name, args, kwargs))
        return UNSEEN if answer is UNSEEN else written(args[0], answer)

    def _plain(self, call: Call, in_place: bool) -> Any:
        if self._shadows and any(shadow_of(x) is not None for x in _tensors(call)):
            return follow(call, in_place, self._answer)
        answer = call.run()
        if self.graph_is_off and isinstance(answer, Tensor) and answer.requires_grad:
            self._note_no_grad(answer)
        return answer

    def _note_no_grad(self, answer: Tensor) -> None:
        op = self.record.note("no_grad")
        if op is not None:
            answer.register_hook(lambda grad: stop_gradients.noted(op, grad))


def _tensors(call: Call) -> Any:
    yield from tensors_in(call.args)
    if call.kwargs:
        yield from tensors_in(call.kwargs.values())


def _name(func: Any) -> str:
    """What a function is called, in whatever form: ``special_softmax``, ``softmax`` the method, ``data``."""
    name: str = getattr(func, "__name__", "") or ""
    if name in ("__get__", "__set__", "__delete__"):
        owner = getattr(func, "__self__", None)
        return f"{getattr(owner, '__name__', '')}.{name.strip('_')}"
    return name.removeprefix("special_").removeprefix("special_")


@lru_cache(maxsize=512)
def _body(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """A function of torch.nn.functional that is made of others, as one that the mode sees the inside of."""
    if not isinstance(func, types.FunctionType) or func.__module__ != functional.__name__:
        return None
    if func.__globals__ is not vars(functional):
        return None
    body = types.FunctionType(
        func.__code__, _open_globals(), func.__name__, func.__defaults__, func.__closure__
    )
    body.__kwdefaults__ = func.__kwdefaults__
    return body


@lru_cache(maxsize=1)
def _open_globals() -> dict[str, Any]:
    """torch.nn.functional's names, where nothing asks who else wants to answer."""
    unasked = {
        name: lambda *args: False for name in vars(functional) if name.startswith("has_torch_function")
    }
    return {**vars(functional), **unasked}


Result = TypeVar("Result")

# What is tried in turn, the first that works from there on.
LEVELS = (
    "everything relaxed",
    "everything relaxed, and tensors kept aside that the defence changes in place",
    "its own cuts of the graph (detach, no_grad) as they are",
    "its operators as they are, and only graphs kept that it frees",
    "nothing relaxed",
)
_EVERYTHING, _ASIDE, _CUTS, _GRAPHS, _NOTHING = range(len(LEVELS))


class Relaxation:
    """Runs forwards with relaxed operators, and their backwards.

    Attributes:
        record: of operators, where it is measuring.
        level: into ``LEVELS``: 0 as long as everything can be relaxed, the last where nothing can. What the
            defence raises alone raises it, never a fault of the machine.
    """

    def __init__(self, *, measuring: bool = False):
        self.record = Record(measuring)
        self.level = _EVERYTHING

    def attempt(self, answer: Callable[[], Result]) -> Result:
        """``answer()``, forward and backward, with as much relaxed as works without an error.

        Raises:
            Exception: what ``answer`` raises with nothing relaxed.
        """
        while self.level < _NOTHING:
            before = {name: vars(entry).copy() for name, entry in self.record.operators.items()}
            try:
                with self._around():
                    return answer()
            except Exception as error:  # a defence may rely on what is relaxed, in any way
                raise_machine_fault(error)
                self.level += 1
                for name in list(self.record.operators):
                    if name in before:
                        vars(self.record.operators[name]).update(before[name])
                    else:
                        del self.record.operators[name]
        return answer()

    @property
    def given_up(self) -> bool:
        """True if nothing can be relaxed: a defence without a gradient has none then."""
        return self.level == _NOTHING

    def forward(self) -> AbstractContextManager[None]:
        """Around the forward within ``answer``."""
        if self.level == _NOTHING:
            return nullcontext()
        return stop_gradients.Relaxed(self.record, self._mode, self.level < _CUTS).forward()

    def _mode(self) -> RelaxedMode:
        if self.level == _GRAPHS:
            return RelaxedMode(self.record, stop_gradients.PASSES)
        cuts = stop_gradients.CUTS if self.level == _CUTS else {}
        return RelaxedMode(self.record, {name: HANDLERS[name] for name in HANDLERS if name not in cuts})

    @contextmanager
    def _around(self) -> Iterator[None]:
        with process_lock(), ExitStack() as stack:
            if self.level < _GRAPHS:
                stack.enter_context(stop_gradients.substitutes())
            if self.level > _EVERYTHING:
                stack.enter_context(torch.autograd.graph.allow_mutation_on_saved_tensors())
            yield
