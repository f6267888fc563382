"""Code that neither the mode nor autograd sees: numpy, PIL, files, Python; threads, vmap, TorchScript.

What leaves torch is remembered. A tensor without a history that comes back with as many elements, and
agrees with what left (a correlation of at least 0.5, channels first or last), continues with the gradient
of what left, times the slope of the regression between the two: a filter or a codec counts as the identity.
A thread inherits its starter's modes; TorchScript is read line by line in Python.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch._functorch import apis
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils.checkpoint import CheckpointFunction

from attacks.relaxation.record import UNSEEN, Call, Handler, Met, Record, Relaxing
from attacks.relaxation.shadow import Shadow, attach, follows, graph_of, live, tensors_in, written
from attacks.relaxation.surrogate_gradients import graft, sloped

ALIKE = 0.5  # correlation of what returns with what left
MANY, ALIKE_AMONG_MANY = 256, 0.25  # of so many elements of the same shape, by chance not even a half of it
FEWEST = 8  # elements that a correlation says anything about
KEPT = 4096  # departures
NUMBERS_KEPT = 2**16  # departures of single numbers


class Departed:
    """What has left torch in one forward, as rows of one image each where it was a batch."""

    def __init__(self) -> None:
        self._rows: dict[int, deque[tuple[Tensor, Met | None]]] = {}
        # By id; kept here and not on the tensor, which may outlive this forward's graph.
        self._checked: dict[int, tuple[Tensor, Tensor]] = {}
        self._numbers: deque[tuple[Tensor, Met | None]] = deque(maxlen=NUMBERS_KEPT)

    def __bool__(self) -> bool:
        return bool(self._rows or self._numbers)

    def leave_number(self, x: Tensor, met: Met | None) -> None:
        """Remembers one number."""
        self._numbers.append((graph_of(x).float().reshape(()), met))

    def leave(self, x: Tensor, met: Met | None) -> None:
        """Remembers ``x``, and each element of its first axis."""
        x = graph_of(x).float()
        for part in (x, *(x if x.ndim > 1 and 1 < len(x) <= KEPT else ())):
            if part.numel() >= FEWEST:
                self._rows.setdefault(part.numel(), deque(maxlen=KEPT)).append((part, met))

    def returned(self, value: Tensor) -> Tensor:
        """``value`` with a gradient, where it is what left before; else itself."""
        if (checked := self._checked.get(id(value))) is not None:
            return checked[1]
        if follows(value) or value.requires_grad:
            return value
        known = value.numel() in self._rows or value.numel() <= len(self._numbers)
        if value.numel() < FEWEST or not known or value.is_complex():
            return value
        found = self._like(value)
        found = value if found is None else found
        self._checked[id(value)] = (value, found)
        return found

    def _like(self, value: Tensor) -> Tensor | None:
        best, chosen = ALIKE, None
        numbers = value.detach().float()
        for x, met in (*self._rows.get(value.numel(), ()), *self._last_numbers(value)):
            for shown in _layouts(x, value):
                correlation, slope = _regression(shown.detach(), numbers)
                many = shown.shape == x.shape and value.numel() >= MANY
                if correlation > best or (chosen is None and many and correlation > ALIKE_AMONG_MANY):
                    best, chosen = correlation, (shown, slope, met)
        if chosen is None:
            return None
        x, slope, met = chosen
        with torch.enable_grad():
            if value.is_floating_point():
                return sloped(value, x.to(value.dtype), slope, met)
            number = sloped(numbers, x, slope, met)
        # Not on the tensor itself: it may be one that the defence keeps, and outlive this graph.
        return attach(value.detach(), Shadow(number))

    def _last_numbers(self, value: Tensor) -> Iterator[tuple[Tensor, Met | None]]:
        """As many of the last numbers as ``value`` holds, in its shape."""
        if value.numel() <= len(self._numbers):
            last = list(islice(self._numbers, len(self._numbers) - value.numel(), None))
            yield torch.stack([number for number, _ in last]).view(value.shape), last[-1][1]


def _layouts(x: Tensor, value: Tensor) -> list[Tensor]:
    """``x`` in the shapes in which it may come back as ``value``."""
    if x.shape == value.shape:
        return [x]
    shown = []
    if x.ndim >= 3:
        shown += [x.movedim(-3, -1), x.movedim(-1, -3)]
    shown = [each for each in shown if each.shape == value.shape]
    if not shown and x.squeeze().shape == value.squeeze().shape:
        shown = [x.reshape(value.shape)]
    return shown


def _regression(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Correlation of two tensors, and the slope of y on x."""
    x, y = x.flatten().float(), y.flatten().float()
    x, y = x - x.mean(), y - y.mean()
    xx, yy, xy = float(x @ x), float(y @ y), float(x @ y)
    if xx <= 0 or yy <= 0:
        return 0.0, 0.0
    return xy / (xx * yy) ** 0.5, xy / xx


def to_numpy(mode: Relaxing, call: Call) -> Any:
    """numpy(), np.asarray, tolist; torch.save and pickle read the storage."""
    x = call.args[0]
    if not follows(x):
        return UNSEEN
    mode.departed.leave(x, mode.record.note("numpy"))
    with torch.no_grad():
        return call.func(x.detach(), *call.args[1:], **call.kwargs)


def to_number(mode: Relaxing, call: Call) -> Any:
    """item, float, int and the like of one element."""
    x = call.args[0]
    if not follows(x) or x.numel() != 1:
        return UNSEEN
    mode.departed.leave_number(x, mode.record.note("item"))
    return call.func(x.detach(), *call.args[1:])


def copied(mode: Relaxing, call: Call) -> Any:
    """copy.deepcopy, which torch refuses to tensors with a graph."""
    return call.args[0].clone() if live(call.args[0]) else UNSEEN


def opaque(mode: Relaxing, call: Call, answer: Any) -> Any:
    """An operator that has no derivative: the identity where shapes agree, else its inputs have left."""
    inputs = [x for x in tensors_in((*call.args, *call.kwargs.values())) if follows(x)]
    if not inputs or not isinstance(answer, Tensor):
        return answer
    alike = [x for x in inputs if x.shape == answer.shape]
    met = mode.record.note(call.name)
    if alike and answer.is_floating_point():
        x = graph_of(alike[0])
        correlation, slope = _regression(x.detach(), answer)
        return sloped(answer, x.to(answer.dtype), slope if abs(correlation) > ALIKE else 1.0, met)
    for x in inputs:
        mode.departed.leave(x, met)
    return answer


def applied(mode: Relaxing, call: Call) -> Any:
    """x.apply_(f) and x.map_(y, f), which call Python for each number, and refuse a graph."""
    x = call.args[0]
    if not any(map(follows, tensors_in(call.args))):
        return UNSEEN
    with torch.no_grad():
        values = x.detach().clone()
        others = [a.detach() if isinstance(a, Tensor) else a for a in call.args[1:]]
        getattr(values, call.name)(*others)
    # What x was belongs to another moment of the graph than what is written into it.
    return written(
        x, opaque(mode, Call(call.func, call.name, (graph_of(x).clone(), *call.args[1:]), {}), values)
    )


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("numpy", "__array__", "tolist", "__dlpack__", "untyped_storage"), to_numpy),
    **dict.fromkeys(("item", "__float__", "__int__", "__index__"), to_number),
    **dict.fromkeys(("apply_", "map_"), applied),
    "__deepcopy__": copied,
}


_LONGEST = 10_000  # turns of a loop


def interpreted(compiled: Any, args: tuple[Any, ...]) -> Any:
    """What a compiled function or method answers to ``args``, in Python.

    Raises:
        NotImplementedError: for what this does not read.
    """
    graph = compiled.inlined_graph
    owner = getattr(compiled, "owner", None)
    inputs = list(graph.inputs())
    given = args if owner is None else (owner() if callable(owner) else owner, *args)
    if len(inputs) != len(given):
        raise NotImplementedError(f"{len(inputs)} inputs, {len(given)} of them given")
    values = {each.debugName(): value for each, value in zip(inputs, given)}
    found = _block(graph, values)
    return found[0] if len(found) == 1 else tuple(found)


def _block(block: Any, values: dict[str, Any]) -> list[Any]:
    for node in block.nodes():
        answers = _node(node, [values[each.debugName()] for each in node.inputs()], values)
        outputs = list(node.outputs())
        for each, answer in zip(outputs, answers):
            values[each.debugName()] = answer
    return [values[each.debugName()] for each in block.outputs()]


def _node(node: Any, given: list[Any], values: dict[str, Any]) -> list[Any]:
    kind = node.kind()
    if kind == "prim::Constant":
        return [node.output().toIValue()]
    if kind == "prim::GetAttr":
        return [getattr(given[0], node.s("name"))]
    if kind in ("prim::ListConstruct", "prim::TupleConstruct"):
        return [list(given) if kind == "prim::ListConstruct" else tuple(given)]
    if kind in ("prim::ListUnpack", "prim::TupleUnpack"):
        return list(given[0])
    if kind in ("prim::NumToTensor", "prim::unchecked_cast", "prim::Uninitialized"):
        return [torch.tensor(given[0])] if kind == "prim::NumToTensor" else [given[0] if given else None]
    if kind in ("prim::RaiseException", "prim::Print"):
        return []
    if kind == "prim::If":
        yes, no = node.blocks()
        return _block(yes if bool(given[0]) else no, values)
    if kind == "prim::Loop":
        return _loop(node, given, values)
    if kind == "prim::dtype":
        return [given[0].dtype]
    if kind == "prim::device":
        return [given[0].device]
    if not kind.startswith("aten::"):
        raise NotImplementedError(kind)
    return _operator(node, kind.removeprefix("aten::"), given)


def _loop(node: Any, given: list[Any], values: dict[str, Any]) -> list[Any]:
    most, goes_on, *carried = given
    (body,) = node.blocks()
    for turn in range(min(most, _LONGEST)):
        if not goes_on:
            break
        names = [each.debugName() for each in body.inputs()]
        values.update(zip(names, [turn, *carried]))
        goes_on, *carried = _block(body, values)
    return carried


def _operator(node: Any, name: str, given: list[Any]) -> list[Any]:
    """An operator of torch; several of its arguments may have to be named."""
    if name in ("__getitem__", "len", "Int", "Float", "Bool", "ScalarImplicit"):
        by_hand = {"__getitem__": lambda x, i: x[i], "len": len, "Int": int, "Float": float, "Bool": bool}
        return [by_hand.get(name, lambda x: x.item())(*given)]  # type: ignore[operator]
    packet = getattr(torch.ops.aten, name)
    overload = getattr(packet, node.schema().split("(")[0].partition(".")[2] or "default")
    arguments = overload._schema.arguments
    places = [value for value, each in zip(given, arguments) if not each.kwarg_only]
    named = {each.name: value for value, each in zip(given, arguments) if each.kwarg_only}
    answer = overload(*places, **named)
    return list(answer) if isinstance(answer, tuple) else [answer]


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
