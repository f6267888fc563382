"""Identity of user code, in memory or behind a command.

Code in memory is pickled into a hash: functions by bytecode, constants, defaults and all that they refer to,
classes by what they define, objects by their class and state, tensors and arrays by their bytes. What belongs
to installed packages counts by its name there and the package's version. What can't be pickled can't be
compared.
"""

import dis
import functools
import io
import pickle
import random
import shlex
import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.adapters.user_modules import OURS, Code, digest_of, files_of, is_readable, version_installed
from attacks.gradients import raise_machine_fault

# Each draw sets their state, or nothing repeats.
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
# What stands around functions, and by which attributes.
_AROUND = (MethodType, staticmethod, classmethod, property, functools.cached_property, CellType)
_WITHIN = ("__func__", "__self__", "fget", "fset", "fdel", "func", "__wrapped__", "cell_contents")


def code_in_memory(given: Any, *, modes: bool = True) -> Code:
    """A function, class, module or any other object, as one part beside the packages that it uses.

    Args:
        modes: whether it counts which modules are in training mode.
    """
    packages: dict[str, str] = {}
    try:
        digest = _Pickler(packages, modes=modes).digest(given)
    except Exception as error:  # objects may refuse in any way
        raise_machine_fault(error)
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return Code({}, f"it holds what can't be read ({reason})")
    name = getattr(given, "__qualname__", type(given).__qualname__)
    return Code({name.replace("<locals>.", "").replace("<lambda>", "lambda"): digest, **packages})


def arrays_in(built: Any) -> Code:
    """The tensors and arrays alone that an object holds, at any depth, as one part."""
    pickler = _Pickler({})
    try:
        pickler.dump(built)
    except Exception as error:  # those before it count
        raise_machine_fault(error)
    return Code({"its tensors": digest_of(repr(pickler.arrays).encode())} if pickler.arrays else {})


def code_of_command(command: str) -> Code:
    """Its executable, every argument that is a file, and what Python scripts among these import."""
    try:
        words = shlex.split(command)
    except ValueError:  # starting it says why
        return Code({})
    codes = []
    for flag, word in pairwise(words):
        for place in (word, word.partition("=")[2]):  # --weights=w.npz
            if place.endswith(".py") or flag == "-m":
                codes.append(files_of(place))
            elif is_readable(place):
                codes.append(Code({place: digest_of(Path(place).read_bytes())}))
    parts = {name: part for code in codes for name, part in code.parts.items()}
    unknown = max(code.unknown for code in codes) if parts else "its command names no file of its code"
    return Code({"executable": str(shutil.which(words[0])), **parts}, unknown)


def _as(*parts: object) -> None:
    """Stands for what an object is made by; nothing is ever loaded."""


class _Pickler(pickle.Pickler):
    """Pickles what changes an object's answers, the same in every process.

    Attributes:
        arrays: digests of the tensors and arrays that it came by.
    """

    def __init__(self, packages: dict[str, str], *, modes: bool = True):
        self._packages, self._modes, self._stream = packages, modes, io.BytesIO()
        self.arrays: list[str] = []
        super().__init__(self._stream)

    def digest(self, value: Any) -> str:
        """12 hexadecimal digits."""
        self.dump(value)
        return digest_of(self._stream.getbuffer())

    def persistent_id(self, value: Any) -> str | None:
        """Strings by value, because equal ones may or may not be one object."""
        kind = type(value)
        if kind in (str, bytes):
            return repr(value)
        if kind in (set, frozenset):  # in no order
            return str(sorted(_Pickler(self._packages, modes=self._modes).digest(part) for part in value))
        if isinstance(value, Tensor):
            header = f"{value.dtype} {tuple(value.shape)}"
            return self._array(header, value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return self._array(f"{value.dtype} {value.shape}", np.ascontiguousarray(value))
        if isinstance(value, _GENERATORS) or kind.__module__ in ("_thread", "_contextvars", "_abc"):  # locks
            return kind.__name__
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
            return str(value)
        if isinstance(value, type | FunctionType | ModuleType) and not getattr(value, "__closure__", None):
            return self._packaged(value)
        return None

    def _array(self, header: str, content: "np.ndarray[Any, Any]") -> str:
        self.arrays.append(f"{header} {digest_of(content.data)}")
        return self.arrays[-1]

    def _packaged(self, value: Any) -> str | None:
        """The name of a module, class or function of an installed package; None for the user's."""
        scope = getattr(value, "__globals__", vars(value))  # of a function, whatever it passes itself off as
        top = str(value.__module__ if isinstance(value, type) else scope.get("__name__")).partition(".")[0]
        if top not in (*OURS, *sys.stdlib_module_names) or top == "__main__":
            module = sys.modules.get(top)
            place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
            version = "" if top == "__main__" else version_installed(top, place)
            if not version:
                return None
            self._packages[top] = version
        return f"{top} {getattr(value, '__qualname__', value.__name__)}"

    def reducer_override(self, value: Any) -> Any:
        """How the user's functions and classes are pickled: each may refer to itself in its third entry."""
        if isinstance(value, FunctionType):
            # Of torch.compile what it was given.
            return _as, (), self._function(getattr(value, "_torchdynamo_orig_callable", value))
        if isinstance(value, CodeType):
            identity = (value.co_code, value.co_names, value.co_varnames, value.co_flags)
            return _as, (*identity, value.co_consts)
        if isinstance(value, type):
            held = {name: part for name, part in vars(value).items() if name[:2] != "__" or callable(part)}
            return _as, (value.__qualname__,), (value.__bases__, type(value), held)
        if isinstance(value, ModuleType):
            return _as, (files_of(str(getattr(value, "__file__", value.__name__))).parts,)
        if isinstance(value, nn.Module):
            return _as, (), self._module(getattr(value, "_orig_mod", value))
        if isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType):
            return _as, (value.__name__, value.__self__)
        if isinstance(value, (*_AROUND, functools._lru_cache_wrapper)):
            return _as, (), [getattr(value, name) for name in _WITHIN if hasattr(value, name)]
        return NotImplemented

    def _module(self, module: nn.Module) -> Any:
        state = {name: part for name, part in vars(module).items() if name != "_compiled_call_impl"}
        if not self._modes:
            del state["training"]
        # Hooks are numbered by a counter of the process.
        hooks = {name: [*part.values()] for name, part in state.items() if name.endswith("_hooks")}
        return type(module), state | hooks

    def _function(self, function: FunctionType) -> Any:
        if self._packaged(function) is not None:
            return function.__closure__
        code, scope = function.__code__, function.__globals__
        used = {*_loaded_by(code, "ATTR", "METHOD", "FROM")}
        named = sorted({*_loaded_by(code, "LOAD_NAME", "GLOBAL")} & scope.keys())
        imported = [files_of(name).parts for name in _loaded_by(code, "IMPORT_NAME") if name]
        own = (code, function.__defaults__, function.__kwdefaults__, vars(function), function.__closure__)
        return own, imported, {name: self._used_of(scope[name], used) for name in named}

    def _used_of(self, value: Any, used: set[str]) -> Any:
        """A global; of a user's module that which a function may use of it."""
        if not isinstance(value, ModuleType) or self._packaged(value) is not None:
            return value
        return {name: self._used_of(vars(value)[name], used) for name in sorted(used & vars(value).keys())}


def _loaded_by(code: CodeType, *kinds: str) -> Iterator[str]:
    """Names that a function's code loads by operations of these kinds, those of functions inside it, too."""
    for step in dis.get_instructions(code):
        if any(kind in step.opname for kind in kinds) and not step.opname.startswith("STORE"):
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loaded_by(constant, *kinds)
