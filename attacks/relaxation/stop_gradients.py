"""Where a defence stops its own gradient: detach, no_grad, its own backward passes and functions.

Autograd functions may have any backward: zero, noise, the wrong sign. Their forward is run again in the
backward pass, with a graph and relaxed operators, on the inputs and random numbers it had, and
differentiated. Where that fails or gives nothing, the gradient is the function's own, and where that is
nothing, too, the identity if shapes agree.

Autograd functions and inference mode are out of the mode's sight. Substitutes take their place while a
relaxed attack runs. A substitute does what torch does unless its own thread runs a relaxed forward; in a
backward pass, which may have threads of its own, unless this very call was made in one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.gradients import raise_machine_fault
from attacks.relaxation.record import UNSEEN, Call, Handler, Operator, Record, Relaxing
from attacks.relaxation.shadow import attach, live, shadow_of, tensors_in
from attacks.relaxation.surrogate_gradients import OwnPass, own_pass, sloped


def detached(mode: Relaxing, call: Call) -> Any:
    """The same numbers, their gradient kept. They share their memory, as they would without us."""
    x = call.args[0]
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
    if not live(call.args[0]):
        return UNSEEN
    mode.record.note("detach")
    return call.args[0]


def grad_mode(mode: Relaxing, call: Call) -> Any:
    """no_grad, enable_grad and set_grad_enabled, however they are entered and left."""
    mode.graph_is_off = not call.args[0]  # type: ignore[attr-defined]
    return None


def own_gradients(mode: Relaxing, call: Call) -> Any:
    """Passes backward that the defence makes free no graph, and nothing is relaxed in them.

    A defence that adapts to inputs by ``loss.backward()`` (TENT, arXiv 2006.10726) frees that of its answer.
    """
    with own_pass():
        return call.func(*call.args, **{**call.kwargs, "retain_graph": True})


PASSES: dict[str, Handler] = {"grad": own_gradients, "backward": own_gradients}  # torch names the arguments
CUTS: dict[str, Handler] = {
    "detach": detached,
    "data.get": detached,
    "detach_": detached_in_place,
    "_set_grad_enabled": grad_mode,
}
HANDLERS = CUTS | PASSES


class Relaxed(NamedTuple):
    """How a thread runs a forward.

    Attributes:
        record: takes note of the operators.
        mode: gives the mode that the forward runs under.
        mends_cuts: whether inference mode is none.
    """

    record: Record
    mode: Callable[[], Any]
    mends_cuts: bool

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Around a forward in this thread."""
        before = _RELAXED.set(self)
        try:
            with self.mode():
                yield
        finally:
            _RELAXED.reset(before)


_RELAXED: ContextVar[Relaxed | None] = ContextVar("the relaxed forward that this thread runs", default=None)
_ENTER, _EXIT = torch.inference_mode.__enter__, torch.inference_mode.__exit__
_SKIPPED = "_csrobust_skipped"


def _enter(self: Any) -> None:
    relaxed = _RELAXED.get()
    if relaxed is None or not relaxed.mends_cuts:
        _ENTER(self)
        return
    setattr(self, _SKIPPED, True)
    op = relaxed.record.note("inference_mode") if self.mode else None  # inference_mode(False) cuts nothing
    if op is not None:
        op.flowed += 1


def _exit(self: Any, *error: Any) -> None:
    if not vars(self).pop(_SKIPPED, False):
        _EXIT(self, *error)


def noted(op: Operator, grad: Tensor | None) -> None:
    """Takes note of a gradient that flows back; autograd hands None over for one that is not defined."""
    op.flowed += int(grad is not None and bool((grad != 0).any()))


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


_substituted: set[type] = set()


@contextmanager
def substitutes() -> Iterator[None]:
    """Within it inference mode and such functions are what a relaxed forward needs (`process_lock`)."""
    with ExitStack() as stack:
        _substitute(torch.inference_mode, {"__enter__": _enter, "__exit__": _exit}, stack)
        for cls in [cls for cls in functions() if "forward" in vars(cls)]:
            _substitute(cls, _opened(cls), stack)
        yield


def _substitute(cls: Any, methods: dict[str, Any], stack: ExitStack) -> None:
    """Gives a class these methods until the stack ends, unless it has substitutes already."""
    if cls in _substituted:
        return

    def restore() -> None:
        for name in methods:
            if name in own:
                setattr(cls, name, own[name])
            elif name in vars(cls):
                delattr(cls, name)
        _substituted.discard(cls)

    own = {name: vars(cls)[name] for name in methods if name in vars(cls)}
    stack.callback(restore)
    _substituted.add(cls)
    for name, method in methods.items():
        setattr(cls, name, method)


def _opened(cls: Any) -> dict[str, Any]:
    """Methods by which an autograd function has the backward of its forward."""
    base = torch.autograd.Function
    separate = cls.setup_context is not base.setup_context
    entry = "setup_context" if separate else "forward"
    way = "vjp" if cls.vjp is not base.vjp else "backward"
    forward, entered, backward = cls.forward, getattr(cls, entry), getattr(cls, way)

    def enter(ctx: Any, *args: Any) -> Any:
        if (relaxed := _RELAXED.get()) is not None:
            inputs = args[0] if separate else args
            setattr(ctx, _SAVED, (relaxed, inputs, torch.get_rng_state()))
        return entered(ctx, *args)

    def back(ctx: Any, *grads: Any) -> Any:
        if OwnPass.running or not hasattr(ctx, _SAVED):
            return backward(ctx, *grads)
        return _gradients(ctx, grads, forward, backward, separate, cls.__name__)

    return {entry: staticmethod(enter), way: staticmethod(back)}


def _gradients(
    ctx: Any,
    grads: tuple[Any, ...],
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    separate: bool,
    name: str,
) -> Any:
    relaxed, args, state = getattr(ctx, _SAVED)
    vjps = _of_forward(relaxed, args, state, grads, forward, separate)
    own: Any = None
    if vjps is None or relaxed.record.measuring or not _any(vjps):
        own = _own(backward, ctx, grads)
    if vjps is None or not _any(vjps):
        vjps = own if own is not None and _any(own) else _identity(args, grads)
    agree = own is not None and _agree(own, vjps)
    op = relaxed.record.note(f"autograd function {name}", 0.0 if agree else 1.0)
    if op is not None and _any(vjps):
        op.flowed += 1
    return vjps


def _of_forward(
    relaxed: Relaxed,
    args: tuple[Any, ...],
    state: Tensor,
    grads: tuple[Any, ...],
    forward: Any,
    separate: bool,
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
        with torch.enable_grad(), relaxed.forward():
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
