"""Where a defence cuts its own graph: detach, ``.data``, no_grad, inference_mode, hooks, passes backward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import BackwardHook

from attacks.relaxation.call import UNSEEN, Call, Handler, Relaxing, first
from attacks.relaxation.graft import own_pass, sloped
from attacks.relaxation.record import Met, Record
from attacks.relaxation.shadow import attach, live, shadow_of


def detached(mode: Relaxing, call: Call) -> Any:
    """The same numbers, their gradient kept. They share their memory, as they would without us."""
    x = call.args[0]
    if mode.keep_cuts:
        return UNSEEN
    if (shadow := shadow_of(x)) is not None:
        return attach(call.run(), shadow)
    if not live(x):
        return UNSEEN
    met = mode.record.note("detach" if call.name == "detach" else ".data")
    if met is None:
        return x.view_as(x)
    return sloped(x.detach(), x, 1.0, met)


def detached_in_place(mode: Relaxing, call: Call) -> Any:
    """``detach_``."""
    if mode.keep_cuts or not live(call.args[0]):
        return UNSEEN
    mode.record.note("detach")
    return call.args[0]


def grad_mode(mode: Relaxing, call: Call) -> Any:
    """no_grad, enable_grad and set_grad_enabled, however they are entered and left."""
    if mode.keep_cuts:
        return UNSEEN
    mode.graph_is_off = not call.args[0]  # type: ignore[attr-defined]
    return None


def requires_grad(mode: Relaxing, call: Call) -> Any:
    """Saying that a tensor needs no gradient: the attacker's still does.

    What comes back from a file is no leaf either.
    """
    x = call.args[0]
    back = not live(x) and bool(mode.departed) and mode.departed.returned(x) is not x
    return UNSEEN if mode.keep_cuts or not (live(x) or back) else x


def hooked(mode: Relaxing, call: Call) -> Any:
    """A hook that may change gradients on their way back."""
    x = first(call)
    if mode.keep_cuts or not isinstance(x, Tensor) or not x.requires_grad:
        return UNSEEN
    met = mode.record.note("register_hook")
    if met is not None:
        x.register_hook(lambda grad: noted(met, grad))
    return _NoHandle()


def noted(met: Met, grad: Tensor | None) -> None:
    """Takes note of a gradient that flows back; autograd hands None over for one that is not defined."""
    met.flowed += int(grad is not None and bool((grad != 0).any()))


class _NoHandle:
    """What registering a hook gives back."""

    def remove(self) -> None:
        """There is nothing to remove."""


@contextmanager
def cuts_mended(record: Record) -> Iterator[None]:
    """Within it inference mode is none, and modules' backward hooks are not set up."""

    def enter(self: Any) -> None:
        met = record.note("inference_mode")
        if met is not None:
            met.flowed += 1

    entered, left = torch.inference_mode.__enter__, torch.inference_mode.__exit__
    into, out_of = BackwardHook.setup_input_hook, BackwardHook.setup_output_hook
    torch.inference_mode.__enter__ = enter  # type: ignore[method-assign]
    torch.inference_mode.__exit__ = lambda self, *error: None  # type: ignore[method-assign]
    BackwardHook.setup_input_hook = lambda self, args: args  # type: ignore[method-assign]
    BackwardHook.setup_output_hook = lambda self, args: args  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.inference_mode.__enter__, torch.inference_mode.__exit__ = entered, left  # type: ignore
        BackwardHook.setup_input_hook, BackwardHook.setup_output_hook = into, out_of  # type: ignore


@contextmanager
def graphs_kept() -> Iterator[None]:
    """Within it passes backward that the defence makes free no graph, and nothing is relaxed in them.

    A defence that adapts to inputs by ``loss.backward()`` (TENT, arXiv 2006.10726) frees that of its answer.
    """
    backward, grad = torch.autograd.backward, torch.autograd.grad
    torch.autograd.backward, torch.autograd.grad = _retaining(backward, 2), _retaining(grad, 3)
    try:
        yield
    finally:
        torch.autograd.backward, torch.autograd.grad = backward, grad


def _retaining(run: Callable[..., Any], place: int) -> Callable[..., Any]:
    """``run``, whose argument ``retain_graph`` is the one at ``place``, with True for it."""

    def retaining(*args: Any, **kwargs: Any) -> Any:
        with own_pass():
            if len(args) > place:
                return run(*args[:place], True, *args[place + 1 :], **kwargs)
            return run(*args, **{**kwargs, "retain_graph": True})

    return retaining


HANDLERS: dict[str, Handler] = {
    "detach": detached,
    "data.get": detached,
    "detach_": detached_in_place,
    "_set_grad_enabled": grad_mode,
    "requires_grad_": requires_grad,
    "requires_grad.set": requires_grad,
    "register_hook": hooked,
}
