"""Where a defence stops its own gradient: detach, no_grad, its own backward passes and functions.

Autograd functions may have any backward: zero, noise, the wrong sign. Their forward is run again in the
backward pass, with a graph and relaxed operators, on the inputs and random numbers it had, and
differentiated. Where that fails or gives nothing, the gradient is the function's own, and where that is
nothing, too, the identity if shapes agree.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from attacks.gradients import raise_machine_fault
from attacks.relaxation.record import UNSEEN, Call, Handler, Operator, Record, Relaxing
from attacks.relaxation.shadow import attach, live, shadow_of, tensors_in
from attacks.relaxation.surrogate_gradients import OwnPass, own_pass, sloped


def detached(mode: Relaxing, call: Call) -> Any:
    """The same numbers, their gradient kept. They share their memory, as they would without us."""
    x = call.args[0]
    if mode.keep_cuts:
        return UNSEEN
    if (shadow := shadow_of(x)) is not None:
        return attach(call.run(), shadow)
    if not live(x):
        return UNSEEN
    op = mode.record.note("detach" if call.name == "detach" else ".data")
    if op is None:
        return x.view_as(x)
    return sloped(x.detach(), x, 1.0, op)


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


def noted(op: Operator, grad: Tensor | None) -> None:
    """Takes note of a gradient that flows back; autograd hands None over for one that is not defined."""
    op.flowed += int(grad is not None and bool((grad != 0).any()))


@contextmanager
def cuts_mended(record: Record) -> Iterator[None]:
    """Within it inference mode is none."""

    def enter(self: Any) -> None:
        op = record.note("inference_mode") if self.mode else None  # inference_mode(False) cuts nothing
        if op is not None:
            op.flowed += 1

    entered, exited = torch.inference_mode.__enter__, torch.inference_mode.__exit__
    torch.inference_mode.__enter__ = enter  # type: ignore[method-assign]
    torch.inference_mode.__exit__ = lambda self, *error: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.inference_mode.__enter__, torch.inference_mode.__exit__ = entered, exited  # type: ignore


@contextmanager
def graphs_retained() -> Iterator[None]:
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
}


WRONG = 0.9  # cosine between a function's own gradient and that of its forward, below which it misleads
_SAVED = "_csrobust_inputs"


class _Context:
    """What a forward finds in place of torch's context."""

    def __init__(self) -> None:
        self.needs_input_grad = (True,) * 64
        self.saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        """No need."""

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Ignored: what is not differentiable is relaxed."""

    def set_materialize_grads(self, value: bool) -> None:
        """No need."""

    save_for_forward = save_for_backward


def functions() -> Iterator[type]:
    """The classes of autograd functions that are not torch's, nor ours, nor run elsewhere."""
    waiting = list(torch.autograd.Function.__subclasses__())
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        ours = (cls.__module__ or "").startswith(("torch.", "attacks.", "torchvision."))
        if not ours and cls.__module__ != "torch" and not getattr(cls, "runs_elsewhere", False):
            yield cls


@contextmanager
def opened(record: Record, tracing: Callable[[], Any]) -> Iterator[None]:
    """Within it such functions have the backward of their forward.

    Args:
        record: where they are noted.
        tracing: gives the mode under which a forward is run again.
    """
    with ExitStack() as stack:
        for cls in functions():
            if "forward" in vars(cls):
                _open(cls, record, tracing, stack)
        yield


def _open(cls: Any, record: Record, tracing: Callable[[], Any], stack: ExitStack) -> None:
    forward, backward = cls.forward, cls.backward
    separate = cls.setup_context is not torch.autograd.Function.setup_context
    raw = {name: vars(cls).get(name) for name in ("forward", "backward", "setup_context", "vjp")}

    def seen(ctx: Any, args: tuple[Any, ...]) -> None:
        setattr(ctx, _SAVED, (args, torch.get_rng_state()))

    def run(ctx: Any, *args: Any) -> Any:
        seen(ctx, args)
        return forward(ctx, *args)

    def set_up(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        seen(ctx, inputs)
        return setup(ctx, inputs, output)

    def back(ctx: Any, *grads: Any) -> Any:
        return _gradients(ctx, grads, forward, backward, separate, record, tracing, cls.__name__)

    if separate:
        setup = cls.setup_context
        cls.setup_context = staticmethod(set_up)
    else:
        cls.forward = staticmethod(run)
    cls.backward = staticmethod(back)

    def restore() -> None:
        for name, value in raw.items():
            if value is not None:
                setattr(cls, name, value)
            elif name in vars(cls):
                delattr(cls, name)

    stack.callback(restore)


def _gradients(
    ctx: Any,
    grads: tuple[Any, ...],
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    separate: bool,
    record: Record,
    tracing: Callable[[], Any],
    name: str,
) -> Any:
    if OwnPass.running:
        return backward(ctx, *grads)
    args, state = getattr(ctx, _SAVED)
    vjps = _of_forward(args, state, grads, forward, separate, tracing)
    own: Any = None
    if vjps is None or record.measuring or not _any(vjps):
        own = _own(backward, ctx, grads)
    if vjps is None or not _any(vjps):
        vjps = own if own is not None and _any(own) else _identity(args, grads)
    op = record.note(f"autograd function {name}", 0.0 if own is not None and _agree(own, vjps) else 1.0)
    if op is not None and _any(vjps):
        op.flowed += 1
    return vjps


def _of_forward(
    args: tuple[Any, ...], state: Tensor, grads: tuple[Any, ...], forward: Any, separate: bool, tracing: Any
) -> tuple[Any, ...] | None:
    """The gradients of the function's forward with respect to its arguments; None where it can't be had."""
    leaves = [
        a.detach().requires_grad_()
        if isinstance(a, Tensor) and a.is_floating_point() and a.requires_grad
        else a
        for a in args
    ]
    wanted = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
    before = torch.get_rng_state()
    try:
        torch.set_rng_state(state)
        with torch.enable_grad(), tracing():
            # Views, because a forward may change its inputs in place.
            shown = [a.view_as(a) if isinstance(a, Tensor) and a.requires_grad else a for a in leaves]
            out = forward(*shown) if separate else forward(_Context(), *shown)
        pairs = [
            (o, g)
            for o, g in zip(out if isinstance(out, tuple) else (out,), grads)
            if isinstance(o, Tensor) and o.requires_grad and g is not None
        ]
        if not pairs or not wanted:
            return None
        parts = torch.autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True)
    except Exception as error:  # user code, run as it was not meant to be
        raise_machine_fault(error)
        return None
    finally:
        torch.set_rng_state(before)
    by_leaf = dict(zip(map(id, wanted), parts))
    return tuple(by_leaf.get(id(leaf)) for leaf in leaves)


def _own(backward: Callable[..., Any], ctx: Any, grads: tuple[Any, ...]) -> tuple[Any, ...] | None:
    try:
        result = backward(ctx, *grads)
    except Exception as error:  # a backward that is not there, or raises
        raise_machine_fault(error)
        return None
    return result if isinstance(result, tuple) else (result,)


def _identity(args: tuple[Any, ...], grads: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        next((g for g in grads if g is not None and g.shape == a.shape), None)
        if isinstance(a, Tensor) and a.is_floating_point() and a.requires_grad
        else None
        for a in args
    )


def _any(grads: tuple[Any, ...]) -> bool:
    return any(bool((grad != 0).any()) for grad in tensors_in(grads))


def _agree(own: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    pairs = [(a, b) for a, b in zip(own, other) if isinstance(a, Tensor) and isinstance(b, Tensor)]
    return bool(pairs) and all(
        float(torch.cosine_similarity(a.flatten().float(), b.flatten().float(), 0)) > WRONG for a, b in pairs
    )
