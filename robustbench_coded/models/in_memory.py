"""Networks that are in memory: a module or a function of the user, as a module that answers with logits.

logits_of(answer)      -> the logits [n, classes] in whatever a network returned
answered(network, x)   -> its logits for images, or an InputError that says why there are none
NetworkInMemory(given) -> a module around a function, or around a module that returns something else
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.gradients import raise_machine_fault, recorded
from robustbench_coded.errors import InputError, described

SHOWN = 6  # parts of an answer, in a message


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
    """What to do where it answers images [n, H, W, C] instead; empty where it does not."""
    with torch.no_grad(), suppress(Exception, SystemExit):
        if not no_logits(logits_of(network(x.permute(0, 2, 3, 1))), len(x)):
            return "; it answers images [n, H, W, C]: let it begin with x = x.permute(0, 2, 3, 1)"
    return ""


def answering_logits(network: nn.Module) -> nn.Module:
    """The same module, which from now on answers with the logits in what it returned."""
    network.register_forward_hook(_logits_alone)
    return network


def _logits_alone(network: nn.Module, inputs: Any, answer: Any) -> Any:
    return logits_of(answer, example="in its forward, return answer")


class NetworkInMemory(nn.Module):
    """Pixels [n, C, H, W] in [0, 1] -> logits [n, classes], on the device and in the dtype of the pixels.

    Inside, the pixels are on the device and in the dtype of the network's weights.

    Args:
        given: a module, or a function. Modules inside a function are not parts of this one: they are neither
            copied nor moved nor frozen.

    Attributes:
        held: what the function refers to: variables that it closes over, globals that it names, the object
            that it is a method of.
        plain: whether the network has raised nothing and returned nothing but tensors, so that a module can
            do without this.
    """

    def __init__(self, given: Callable[[Tensor], Any]):
        super().__init__()
        self.given = given
        self.held: tuple[Any, ...] = () if isinstance(given, nn.Module) else tuple(held_by(given))
        self.plain = True

    @property
    def modules_held(self) -> list[nn.Module]:
        """The modules that it answers by."""
        held = (self.given, *self.held)
        return [value for value in held if isinstance(value, nn.Module)]

    def forward(self, x: Tensor) -> Tensor:
        weights = (w for module in self.modules_held for w in module.parameters() if w.is_floating_point())
        like = next(weights, x)
        answer = recorded(self._answer, x.to(like.device, like.dtype))
        return answer.to(x.device, x.dtype) if isinstance(answer, Tensor) else answer

    def _answer(self, x: Tensor) -> Any:
        try:
            answer = self.given(x)
        except Exception:
            self.plain = False
            raise
        self.plain = self.plain and isinstance(answer, Tensor)
        return logits_of(answer)


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


def held_by(function: Any, scope: Any = None) -> Iterator[Any]:
    """Objects that a function refers to, also by other functions of its module."""
    if isinstance(function, partial):
        yield from (*function.args, *function.keywords.values())
        function = function.func
    if isinstance(function, nn.Module):
        yield function
        return
    if isinstance(function, MethodType):
        yield function.__self__
        yield from getattr(function.__self__, "__dict__", {}).values()
        function = function.__func__
    if not isinstance(function, FunctionType):
        yield from getattr(function, "__dict__", {}).values()
        return
    scope = {} if scope is None else scope
    scope[id(function)] = function
    closure = inspect.getclosurevars(function)
    for value in (*closure.nonlocals.values(), *closure.globals.values()):
        yield value
        nested = isinstance(value, FunctionType) and value.__globals__ is function.__globals__
        if nested and id(value) not in scope:
            yield from held_by(value, scope)
