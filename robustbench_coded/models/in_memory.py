"""Networks that are in memory: a module or a function of the user, as a module that answers with logits.

logits_of(answer)      -> the logits [n, classes] in whatever a network returned
answered(network, x)   -> its logits for images, or an InputError that says why there are none
own_copy(given)        -> a deep copy that answers by itself alone
NetworkInMemory(given) -> a module around a function, or around a module that returns something else
"""

import dis
import gc
import random
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import cache
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from attacks.adapters.user_modules import OURS, version_installed
from attacks.gradients import raise_machine_fault, recorded
from robustbench_coded.errors import InputError, described

SHOWN = 6  # parts of an answer, in a message
Held = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
END = Held | Tensor | ModuleType | CodeType | FrameType | BuiltinFunctionType  # `reached_from` stops here
UNTRACKED = torch.Generator | np.ndarray | dict  # by Python's collector, unlike all else that may change
Given = TypeVar("Given")
GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")  # instructions that read a global variable


def logits_of(answer: Any, of: str = "it", example: str = "lambda x: model(x)") -> Any:
    """The logits in what a network returned.

    Args:
        answer: a tensor or an array; an object or a dictionary with ``logits``, as Hugging Face and
            torchvision's Inception return; or a tuple, list or dictionary in which one tensor alone has the
            shape [n, m]. Anything else is returned as it is, and whoever asked says what is wrong with it.
        of: who returned it.
        example: of a choice, before its brackets.

    Raises:
        InputError: several tensors could be the logits, or none; the message says how to choose.
    """
    if isinstance(answer, Tensor):
        return answer
    if isinstance(answer, np.ndarray):
        return torch.from_numpy(answer)
    if isinstance(answer, Mapping):
        parts = dict(answer)
    elif isinstance(getattr(answer, "logits", None), Tensor):
        return answer.logits
    elif isinstance(answer, tuple | list):
        parts = dict(enumerate(answer))
    else:
        return answer
    if isinstance(parts.get("logits"), Tensor):
        return parts["logits"]
    matrices = {key: part for key, part in parts.items() if isinstance(part, Tensor) and part.ndim == 2}
    if len(matrices) == 1:
        return next(iter(matrices.values()))
    shapes = ", ".join(
        f"{key!r}: {list(part.shape) if isinstance(part, Tensor) else type(part).__name__}"
        for key, part in list(parts.items())[:SHOWN]
    ) + (", ..." if len(parts) > SHOWN else "")
    chosen = next(iter(matrices or parts), 0)
    raise InputError(
        f"{of} returns a {type(answer).__name__} ({shapes}), in which {len(matrices)} tensors have the shape "
        f"[n, classes]; say which are the logits, for example {example}[{chosen!r}]"
    )


def with_images(answer: Any, count: int) -> Any:
    """Logits [classes] of one image, whose axis ``squeeze()`` took away, as [1, classes]."""
    squeezed = count == 1 and isinstance(answer, Tensor) and answer.ndim == 1 and len(answer) > 1
    return answer[None] if squeezed else answer


def answered(network: Callable[[Tensor], Any], x: Tensor, of: str = "it") -> Tensor:
    """The logits [n, classes] of a network for images x [n, C, H, W].

    Args:
        of: the network, in messages.

    Raises:
        InputError: it fails, which is then the cause, or answers otherwise; the message says how to mend it.
    """
    try:
        answer = logits_of(network(x), of)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the user's code can fail in any way
        raise_machine_fault(error)
        message = f"{of} fails on images {list(x.shape)}: {described(error)}"
        raise InputError(f"{message}{_with_other_axes(network, x)}") from error
    if wrong := no_logits(answer, len(x)):
        raise InputError(wrong)
    return answer


def no_logits(answer: Any, count: int) -> str:
    """Why an answer to so many images is no logits, a clause; empty where it is."""
    shape = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    if isinstance(shape, list) and len(shape) == 2 and shape[0] == count:
        return ""
    mend = "; where these are classes, give what their argmax is taken of" if shape == [count] else ""
    return f"expected logits [{count}, classes], got {shape}{mend}"


def _with_other_axes(network: Callable[[Tensor], Any], x: Tensor) -> str:
    """What to do where it answers inputs of another shape instead; empty where it does not."""
    for what, begin, other in (
        ("images [n, H, W, C]", "x.permute(0, 2, 3, 1)", x.permute(0, 2, 3, 1)),
        ("signals [n, C, T]", "x.squeeze(1)", x.squeeze(1)),
        ("vectors [n, F]", "x.flatten(1)", x.flatten(1)),
    ):
        with torch.no_grad(), suppress(Exception, SystemExit):
            if other.shape != x.shape and not no_logits(logits_of(network(other)), len(x)):
                return f"; it answers {what}: let it begin with x = {begin}"
    return ""


def answering_logits(network: nn.Module) -> nn.Module:
    """The same module, which from now on answers with the logits in what it returned."""
    network.register_forward_hook(_logits_alone)
    return network


def _logits_alone(network: nn.Module, inputs: Any, answer: Any) -> Any:
    return with_images(logits_of(answer, example="in its forward, return answer"), len(inputs[0]))


class NetworkInMemory(nn.Module):
    """Pixels [n, C, H, W] in [0, 1] -> logits [n, classes], on the device and in the dtype of the pixels.

    Inside, the pixels are on the device and in the dtype of the network's weights.

    Args:
        given: a module, or a function. Modules inside a function are not parts of this one: they are neither
            copied nor moved nor frozen.

    Attributes:
        held: the modules and random generators that a function answers by (`reached_from`).
        plain: whether the network has raised nothing and returned nothing but tensors, so that a module can
            do without this.
    """

    def __init__(self, given: Callable[[Tensor], Any]):
        super().__init__()
        self.given = given
        reached = () if isinstance(given, nn.Module) else reached_from(given)
        self.held = tuple(value for value in reached if issubclass(type(value), nn.Module | Held))
        self.plain = True

    def __deepcopy__(self, memo: dict[int, Any]) -> "NetworkInMemory":
        shared = not isinstance(self.given, nn.Module)  # a function, and so what it answers by
        return NetworkInMemory(self.given if shared else deepcopy(self.given, memo))

    def forward(self, x: Tensor) -> Tensor:
        modules = (value for value in (self.given, *self.held) if isinstance(value, nn.Module))
        weights = (w for module in modules for w in module.parameters() if w.is_floating_point())
        like = next(weights, x)
        answer = recorded(self._answer, x.to(like.device, like.dtype))
        return answer.to(x.device, x.dtype) if isinstance(answer, Tensor) else answer

    def _answer(self, x: Tensor) -> Any:
        try:
            answer = self.given(x)
        except Exception:
            self.plain = False
            raise
        logits = with_images(logits_of(answer), len(x))
        self.plain = self.plain and logits is answer
        return logits


class FixedBatch(nn.Module):
    """A network that answers batches of one size alone (``torch.export``, ONNX), for batches of any size.

    They are cut into batches of that size; the last one is filled by repeating inputs.
    """

    def __init__(self, network: nn.Module, size: int):
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: Tensor) -> Tensor:
        whole = x[torch.arange(-(-len(x) // self.size) * self.size, device=x.device) % len(x)]
        return torch.cat([self.network(batch) for batch in whole.split(self.size)])[: len(x)]


def is_function(given: Any) -> bool:
    """True if it can only be called: neither a module nor a class nor an object that answers as a defence."""
    return callable(given) and not isinstance(given, nn.Module | type) and not hasattr(given, "logits")


def name_of(given: Any) -> str:
    """The name of a function, class or object, as a table can show it."""
    name = getattr(given, "__name__", None) or getattr(getattr(given, "func", None), "__name__", None)
    return (name or type(given).__name__).strip("<>")


def own_copy(given: Given, shared: Iterable[Any] = ()) -> Given | None:
    """A deep copy from which nothing of the original is reached; None where there is none.

    A closure, such as a hook's, is not copied: that of a copy would go on reading and writing the original.

    Args:
        shared: what both may refer to.
    """
    memo: dict[int, Any] = {id(value): value for value in shared}
    try:
        with torch.no_grad():  # otherwise copies of TorchScript's parameters have a graph
            made = deepcopy(given, memo)
    except Exception as error:  # the user's code can fail in any way
        raise_machine_fault(error)
        return None
    own = all(memo.get(id(value), value) is value for value in reached_from(made))
    return made if own else None


def networks_in(given: Any) -> list[nn.Module]:
    """The networks that an object answers by, as far as `reached_from` goes; parts of one are not listed."""
    networks, parts = [], set[int]()
    for value in reached_from(given):
        if issubclass(type(value), nn.Module) and id(value) not in parts:
            networks.append(value)
            parts.update(map(id, value.modules()))
    return networks


def reached_from(given: Any) -> list[Any]:
    """Everything that an object can answer by: itself, what it refers to, and so on, the nearest first.

    References are elements of containers, attributes (parts of modules, hooks and patched methods among
    them), what functions close over, default to and name, and methods of classes. Code of installed packages
    is only read where it is given, and in the module that it is given from.
    """
    reached, seen, scope = [given], {id(given)}, getattr(given, "__globals__", None)
    for value in reached:  # which grows
        for each in _references(value, scope):
            if id(each) not in seen and (gc.is_tracked(each) or isinstance(each, UNTRACKED)):
                seen.add(id(each))
                reached.append(each)
    return reached


def _references(value: Any, scope: Any) -> Sequence[Any]:
    kind = type(value)  # isinstance would run the code of objects that pass themselves off as others
    if issubclass(kind, END):
        return ()
    if issubclass(kind, np.ndarray):
        return value.ravel().tolist() if value.dtype.hasobject else ()
    if issubclass(kind, weakref.ReferenceType):
        return (value(),)
    if issubclass(kind, nn.Module):  # not its tensors
        state = [part for name, part in vars(value).items() if name not in ("_parameters", "_buffers")]
        return [*value._modules.values(), *state, kind]
    if issubclass(kind, type):
        return () if _is_installed(value.__module__) else [*value.__bases__, *vars(value).values()]
    if not issubclass(kind, FunctionType):
        return gc.get_referents(value)
    own = [value.__closure__, value.__defaults__, value.__kwdefaults__, vars(value)]
    space = value.__globals__
    if space is not scope and _is_installed(space.get("__name__", "")):
        return own
    names, variables = _names(value.__code__)
    named = [space[name] for name in variables & space.keys()]
    modules = [
        vars(part) for part in named if isinstance(part, ModuleType) and not _is_installed(part.__name__)
    ]
    return [*own, *named, *(part[name] for part in modules for name in names & part.keys())]


@cache
def _names(code: CodeType) -> tuple[set[str], set[str]]:
    """Names of globals and attributes in a function and in those inside it; the same of globals alone."""
    inside = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    loaded = {str(each.argval) for each in dis.get_instructions(code) if each.opname.startswith(GLOBAL)}
    return {*code.co_names}.union(*(n for n, _ in inside)), loaded.union(*(v for _, v in inside))


@cache
def _is_installed(module: str) -> bool:
    """True for a module of Python, of csrobust or of an installed package; False for the user's own."""
    top = module.partition(".")[0]
    if top in (*OURS, *sys.stdlib_module_names):
        return top != "__main__"
    return bool(version_installed(top, getattr(sys.modules.get(top), "__file__", None) or ""))
