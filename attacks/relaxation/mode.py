"""The mode in which a defence runs as it is while operators that hide its gradient have another backward."""

import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from attacks.relaxation import (
    casting,
    choosing,
    clamping,
    comparing,
    cutting,
    leaving,
    oscillating,
    places,
    rounding,
    sampling,
    saturating,
    tables,
)
from attacks.relaxation.call import UNSEEN, Call, Handler
from attacks.relaxation.follow import follow, written
from attacks.relaxation.foreign import foreign
from attacks.relaxation.inside import Inside
from attacks.relaxation.record import Record
from attacks.relaxation.shadow import follows, replaced, shadow_of, tensors_in

_FAMILIES = (
    casting, choosing, clamping, comparing, cutting, leaving, oscillating, places, rounding, sampling,
    saturating, tables,
)  # fmt: skip
HANDLERS: dict[str, Handler] = {
    name: handler for family in _FAMILIES for name, handler in family.HANDLERS.items()
}

_OPERATORS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)

# What torch.ops.aten calls operators whose arguments begin as those of the function do.
_ATEN = {"_softmax": "softmax", "_log_softmax": "log_softmax", "_to_copy": "to", "index": "__getitem__"}

# Floating answers that have no history and need none.
_NEW = ("_like", "new_", "zeros", "ones", "empty", "full", "rand", "tensor", "arange", "linspace", "eye")


class RelaxedMode(TorchFunctionMode):
    """Answers every call bit for bit as torch does.

    Args:
        record: takes note of what was met.
        keep_cuts: leave detach, no_grad and hooks to the defence.
    """

    def __init__(self, record: Record, *, keep_cuts: bool = False):
        super().__init__()
        self.record = record
        self.keep_cuts = keep_cuts
        self.departed = leaving.Departed()
        self.inside = Inside()
        self.graph_is_off = False
        self._shadows = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        answer = self._answer(func, args, kwargs or {})
        self.inside.note(answer)
        return answer

    def _answer(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.departed:
            args = replaced(args, self._returned)
            kwargs = {key: replaced(value, self._returned) for key, value in kwargs.items()}
        name = _name(func)
        in_place = name.endswith("_") and not name.endswith("__")
        if kwargs.get("out") is not None and torch.is_grad_enabled() and any(map(follows, tensors_in(args))):
            return self._into(func, args, kwargs)
        if isinstance(func, _OPERATORS) and torch.is_grad_enabled():
            answer = foreign(self, Call(func, name, args, kwargs), lambda: self)
            if answer is not UNSEEN:
                self._shadows = self._shadows or shadow_of(answer) is not None
                return answer
        if torch.is_grad_enabled() or name in cutting.HANDLERS:
            if in_place and name not in HANDLERS:
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

    def _returned(self, value: Tensor) -> Tensor:
        """``value`` with a gradient, where it has left torch and is back, or was made of what has."""
        found = self.departed.returned(value)
        return self.inside.returned(value, self.record) if found is value and not follows(value) else found

    def _handled(self, call: Call) -> Any:
        handler = HANDLERS.get(call.name)
        if handler is None:
            return UNSEEN
        try:
            answer = handler(self, call)
        except Exception:
            # What one operator cannot be given is no reason to give up all others: torch answers alone. What
            # is drawn is not drawn twice.
            if call.name in sampling.HANDLERS:
                raise
            return UNSEEN
        if isinstance(answer, tuple):  # of values and indices, whose indices may have a shadow
            self._shadows = self._shadows or any(shadow_of(part) is not None for part in answer)
        return answer

    def _into(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``round(x, out=y)`` as ``y.copy_(round(x))``."""
        out = kwargs["out"]
        answer = self._answer(func, args, {key: value for key, value in kwargs.items() if key != "out"})
        pairs = zip(tensors_in((out,)), tensors_in((answer,)))
        for place, each in pairs:
            written(place.resize_(each.shape) if place.shape != each.shape else place, each)
        return out

    def _in_place(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``x.round_()`` as ``x.copy_(x.round())``."""
        functional_form = getattr(torch.Tensor, name, None)
        if functional_form is None or not args or not isinstance(args[0], Tensor):
            return UNSEEN
        if name == "bernoulli":  # x.bernoulli_(p) fills x; x.bernoulli() reads it
            if len(args) < 2 or not isinstance(args[1], Tensor):
                return UNSEEN
            p = args[1].to(args[0].dtype).expand(args[0].shape).contiguous()
            answer = self._handled(Call(torch.bernoulli, name, (p, *args[2:]), kwargs))
            return UNSEEN if answer is UNSEEN else written(args[0], answer)
        answer = self._handled(Call(functional_form, name, args, kwargs))
        return UNSEEN if answer is UNSEEN else written(args[0], answer)

    def _plain(self, call: Call, in_place: bool) -> Any:
        if self._shadows and any(shadow_of(x) is not None for x in _tensors(call)):
            return follow(call, in_place, self._answer)
        answer = call.run()
        if (
            isinstance(answer, Tensor)
            and not answer.requires_grad
            and answer.ndim
            and not call.name.endswith(".get")
            and call.name not in cutting.HANDLERS
            and not any(part in call.name for part in _NEW)
            and torch.is_grad_enabled()
            and answer.dtype != torch.bool
            and any(follows(x) for x in _tensors(call))
        ):
            return leaving.opaque(self, call, answer)
        if self.graph_is_off and isinstance(answer, Tensor) and answer.requires_grad:
            self._note_no_grad(answer)
        return answer

    def _note_no_grad(self, answer: Tensor) -> None:
        met = self.record.note("no_grad")
        if met is not None:
            answer.register_hook(lambda grad: cutting.noted(met, grad))


def _tensors(call: Call) -> Any:
    yield from tensors_in(call.args)
    if call.kwargs:
        yield from tensors_in(call.kwargs.values())


def _name(func: Any) -> str:
    """What a function is called, in whatever form: ``special_softmax``, ``softmax`` the method, ``data``."""
    if isinstance(func, torch._ops.OpOverload):
        func = func.overloadpacket
    name: str = getattr(func, "__name__", "") or ""
    if isinstance(func, torch._ops.OpOverloadPacket):
        return _ATEN.get(name, name)
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
