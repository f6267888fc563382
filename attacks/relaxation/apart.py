"""Where a defence computes out of the mode's sight: other threads, ``torch.vmap``, TorchScript."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._functorch import apis
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils.checkpoint import CheckpointFunction

from attacks.relaxation.graft import graft
from attacks.relaxation.record import Record
from attacks.relaxation.scripted import interpreted
from attacks.relaxation.shadow import tensors_in

_SCRIPTED = (torch._C.ScriptFunction, torch._C.ScriptMethod)


@contextmanager
def reached(record: Record) -> Iterator[None]:
    """Within it a thread inherits its starter's modes; vmap and TorchScript have relaxed gradients."""
    submit, start, mapped = ThreadPoolExecutor.submit, threading.Thread.start, apis.vmap_impl

    def submitting(self: Any, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return submit(self, _inheriting(function), *args, **kwargs)

    def starting(self: threading.Thread) -> None:
        self.run = _inheriting(self.run)  # type: ignore[method-assign]
        start(self)

    def mapping(
        function: Any, in_dims: Any, out_dims: Any, randomness: str, size: Any, *args: Any, **kw: Any
    ):
        def real() -> Any:
            return mapped(function, in_dims, out_dims, randomness, size, *args, **kw)

        simple = in_dims == 0 and out_dims == 0 and randomness == "error" and not kw
        if not simple or not all(isinstance(a, Tensor) for a in args) or not _modes():
            return real()
        return _with_gradient(real, lambda: _one_by_one(function, args), record, "vmap")

    ThreadPoolExecutor.submit = submitting  # type: ignore[method-assign]
    threading.Thread.start = starting  # type: ignore[method-assign]
    apis.vmap_impl = mapping  # type: ignore[assignment]
    # With reentry, checkpoints have a backward for ``.backward()`` alone.
    CheckpointFunction.apply = staticmethod(lambda run, preserve, *args: run(*args))
    with ExitStack() as stack:
        for kind in _SCRIPTED:
            stack.enter_context(_interpreting(kind, record))
        try:
            yield
        finally:
            ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]
            threading.Thread.start = start  # type: ignore[method-assign]
            apis.vmap_impl = mapped
            del CheckpointFunction.apply


def _modes() -> list[TorchFunctionMode]:
    return list(_get_current_function_mode_stack())


def _inheriting(function: Callable[..., Any]) -> Callable[..., Any]:
    modes, graph = _modes(), torch.is_grad_enabled()

    def run(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(graph))
            for mode in modes:
                stack.enter_context(mode)
            return function(*args, **kwargs)

    return run if modes else function


def _one_by_one(function: Callable[..., Any], args: tuple[Tensor, ...]) -> Any:
    answers = [function(*each) for each in zip(*args)]
    if isinstance(answers[0], Tensor):
        return torch.stack(answers)
    return tuple(map(torch.stack, zip(*answers)))


@contextmanager
def _interpreting(kind: Any, record: Record) -> Iterator[None]:
    """Calls of compiled functions keep their answers and have the gradient of their graph, read in Python."""
    own = kind.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        def real() -> Any:
            return own(self, *args, **kwargs)

        if kwargs or not _modes():
            return real()
        return _with_gradient(real, lambda: interpreted(self, args), record, "TorchScript")

    kind.__call__ = call
    try:
        yield
    finally:
        kind.__call__ = own


def _with_gradient(real: Callable[[], Any], soft: Callable[[], Any], record: Record, name: str) -> Any:
    """The answer of ``real``, and the gradient of ``soft``, or its own where ``soft`` can't be computed."""
    state = torch.get_rng_state()
    answer = real()
    after = torch.get_rng_state()
    if not torch.is_grad_enabled():
        return answer
    torch.set_rng_state(state)
    try:
        smooth = soft()
    except Exception:  # user code, run as it was not meant to be
        return answer
    finally:
        torch.set_rng_state(after)
    several = isinstance(answer, tuple)
    pairs = list(zip(tensors_in((answer,)), tensors_in((smooth,))))
    if not all(a.shape == s.shape and a.is_floating_point() == s.is_floating_point() for a, s in pairs):
        return answer
    joined = [
        graft(a.detach(), s, record.note(name, 0.0)) if a.is_floating_point() and s.requires_grad else a
        for a, s in pairs
    ]
    return tuple(joined) if several else joined[0]
