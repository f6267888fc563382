"""What tells user code in memory, or behind a command, from other code under the same name.

Functions count by bytecode, constants, defaults and all that they refer to; objects by the code of their
class and their state; tensors and arrays by their bytes; installed packages by version. Parts are named by
what a person would edit: ``Jitter.logits``, ``Jitter.sigma``, ``defend.net``, ``helper.py``.
"""

import dis
import functools
import hashlib
import random
import re
import shlex
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import pairwise
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.adapters.user_modules import OURS, Code, digest_of, files_of, is_readable, version_installed
from attacks.gradients import raise_machine_fault

ARRAYS = "its tensors"
MOST_OBJECTS = 500_000
MOST_BYTES = 2**34
_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type(NotImplemented))
_NAMED = (torch.dtype, torch.device, torch.layout, torch.memory_format, np.dtype, np.generic, PurePath)
_SLOTS = tuple(type(vars(kind)[name]) for kind, name in ((str, "join"), (str, "__add__"), (property, "fget")))
_HIDDEN = (*_SLOTS, type(vars(FunctionType)["__code__"]), type(vars(dict)["fromkeys"]), type("".__add__))
# Each draw sets their state, or nothing repeats.
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
# What stands around functions, and by which attributes.
_AROUND: dict[type, tuple[str, ...]] = {
    MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),
    functools._lru_cache_wrapper: ("__wrapped__",),
    CellType: ("cell_contents",),
}
_OF_THIS_PROCESS = re.compile(r" # \S+:\d+:\d+|0x[0-9a-f]+|\.?___torch_mangle_\d+")  # in TorchScript as text
# Of a class, what says nothing of how it answers.
_UNREAD = {
    *("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__"),
    *(
        "_abc_impl",
        "__slotnames__",
        "__firstlineno__",
        "__static_attributes__",
        "__annotate_func__",
        "__annotations_cache__",
    ),
}
_OF_MODULES = vars(nn.Module())


def code_in_memory(given: Any, name: str, *, modes: bool = True) -> Code:
    """A function, class, module or any other object.

    Args:
        name: of parts that have none of their own.
        modes: whether it counts which modules are in training mode.
    """
    return _Reader(name, modes=modes).code(given)


def arrays_in(built: Any) -> Code:
    """The tensors and arrays alone that an object holds, at any depth, as one part."""
    return _Reader(ARRAYS, arrays_alone=True).code(built)


def code_of_command(command: str) -> Code:
    """Its executable, every argument that is a file, and what Python scripts among these import."""
    try:
        words = shlex.split(command)
    except ValueError:  # starting it says why
        return Code({})
    parts, unknown = {"executable": str(shutil.which(words[0]))}, ""
    for flag, word in pairwise(words):
        found = files_of(word) if word.endswith(".py") or flag == "-m" else Code({})
        if not found.files and is_readable(word):
            found = Code({word: digest_of(Path(word).read_bytes())})
        parts, unknown = parts | found.parts, unknown or found.unknown
    return Code(
        parts, unknown or ("" if parts.keys() - {"executable"} else "its command names no file of its code")
    )


class _TooLarge(Exception):
    """More objects or bytes than are read."""


class _Reader:
    """Goes through an object and all that it refers to; what it meets again counts by its first place."""

    def __init__(self, name: str, *, modes: bool = True, arrays_alone: bool = False):
        self._label, self._modes, self._arrays_alone = name, modes, arrays_alone
        self._hashes: dict[str, Any] = {}
        self._met: dict[int, str] = {}
        self._alive: dict[str, list[Any]] = {}  # by place, so that no id is given twice
        self._left = [MOST_OBJECTS, MOST_BYTES]
        self._packages: dict[str, str] = {}
        self._unknown = ""

    def code(self, given: Any) -> Code:
        """The parts of it."""
        try:
            self.read(given)
        except (_TooLarge, RecursionError):
            self._unknown = "it refers to more than is compared"
        parts = {label: one.hexdigest() for label, one in self._hashes.items()}
        return Code(parts) if self._arrays_alone else Code(parts | self._packages, self._unknown)

    @contextmanager
    def _at(self, *names: str) -> Iterator[None]:
        """What is read within the block is of that part."""
        before = self._label
        if not self._arrays_alone:
            self._label = ".".join(names).replace("<locals>.", "").replace("<lambda>", "lambda")
        try:
            yield
        finally:
            self._label = before

    def _put(self, *values: object) -> None:
        """Adds values that their text tells from others."""
        if not self._arrays_alone:
            self._add(repr(values).encode())

    def _add(self, content: Any) -> None:
        self._spend(1, len(content))
        if self._label not in self._hashes:
            self._hashes[self._label] = hashlib.blake2b(digest_size=6)
        self._hashes[self._label].update(content)

    def _spend(self, what: int, count: int) -> None:
        self._left[what] -= count
        if self._left[what] < 0:
            raise _TooLarge

    def read(self, value: Any) -> None:
        """Adds a value to the part that is being read."""
        self._spend(0, 1)
        if type(value) in _PLAIN:
            self._put(value)
        elif isinstance(value, _NAMED):
            self._put(type(value).__name__, str(value))
        elif type(value) is tuple:
            self._put(len(value))
            for part in value:
                self.read(part)
        elif id(value) in self._met:
            self._put("again", self._met[id(value)])
        else:
            place = getattr(value, "__qualname__", None) if isinstance(value, type | FunctionType) else None
            alive = self._alive.setdefault(place or self._label, [])
            self._met[id(value)] = f"{place or self._label} {len(alive)}"
            alive.append(value)
            self._compound(value)

    def _compound(self, value: Any) -> None:
        kind = type(value)
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self._put(str(value.dtype), value.shape)
            self._add(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        elif kind is list:
            self.read(tuple(value))
        elif kind in (dict, OrderedDict, MappingProxyType):
            self.read(tuple(value.items()))
        elif kind in (set, frozenset):  # in no order
            codes = [code_in_memory(part, "") for part in value]
            self._put(sorted(str(code.parts) for code in codes))
            self._unknown = next((code.unknown for code in codes if code.unknown), self._unknown)
        elif isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction):
            scripted = value._c if isinstance(value, torch.jit.ScriptModule) else None
            text = str(value.graph) if scripted is None else scripted.dump_to_str(True, True, False)
            self._put(_OF_THIS_PROCESS.sub("", text))
            self.read(dict(value.state_dict()) if isinstance(value, nn.Module) else None)
        elif isinstance(value, nn.Module):
            self._module(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, ModuleType):
            if not self._from_package(value):
                self._file(str(getattr(value, "__file__", value.__name__)))
        elif isinstance(value, tuple(_AROUND)):
            names = next(_AROUND[around] for around in _AROUND if isinstance(value, around))
            with suppress(ValueError):  # an empty cell
                self.read(tuple(getattr(value, name) for name in names))
        elif isinstance(value, (BuiltinFunctionType, *_HIDDEN)):
            self._builtin(value)
        elif isinstance(value, _GENERATORS) or kind.__module__ in ("_thread", "_contextvars"):  # or a lock
            self._put(kind.__name__)
        else:
            self._object(value)

    def _tensor(self, value: Tensor) -> None:
        self._put(value.dtype, tuple(value.shape))
        try:
            plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
            self._add(plain.view(torch.uint8).numpy().data)
        except (RuntimeError, TypeError, NotImplementedError) as error:  # sparse, quantised, on no device
            raise_machine_fault(error)
            self._cannot(value)

    def _module(self, module: nn.Module) -> None:
        module = getattr(module, "_orig_mod", module)  # of torch.compile
        self.read(type(module))
        generated = isinstance(module, torch.fx.GraphModule)
        if generated:
            self._put(module.code)
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules"):
                self._attributes(type(module), value)
            elif name in _OF_MODULES and not (name == "training" and self._modes):
                # Hooks are numbered by a counter of the process.
                self.read([*value.values()] if isinstance(value, dict) else None)
            elif not generated:
                self._attributes(type(module), {name: value})

    def _attributes(self, owner: type, state: dict[str, Any]) -> None:
        for name, value in state.items():
            with self._at(owner.__qualname__, str(name)) if _package(owner) is None else nullcontext():
                self._put(name)
                self.read(value)

    def _class(self, given: type) -> None:
        if self._from_package(given):
            return
        with self._at(given.__qualname__):
            self.read((*given.__bases__, type(given)))
        self._attributes(given, {name: value for name, value in vars(given).items() if name not in _UNREAD})

    def _function(self, given: FunctionType) -> None:
        given = getattr(given, "_torchdynamo_orig_callable", given)  # of torch.compile
        code, name, scope = given.__code__, given.__qualname__, given.__globals__
        own = not self._from_package(given)
        if own:
            with self._at(name):
                self._bytecode(code)
                self.read((given.__defaults__, given.__kwdefaults__, vars(given)))
            used = {*_loaded_by(code, "NAME", "GLOBAL", "ATTR", "METHOD", "FROM")}
            for variable in sorted({*_loaded_by(code, "LOAD_NAME", "GLOBAL")} & scope.keys()):
                with self._at(name, *(() if isinstance(scope[variable], ModuleType) else (variable,))):
                    self._referred(scope[variable], used, set())
            for imported in _loaded_by(code, "IMPORT_NAME"):
                self._file(imported)
        for variable, cell in zip(code.co_freevars, given.__closure__ or (), strict=True):
            with self._at(name, variable) if own else nullcontext():
                self.read(cell)

    def _bytecode(self, code: CodeType) -> None:
        self._put(code.co_code, code.co_names, code.co_argcount, code.co_kwonlyargcount, code.co_flags)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._bytecode(constant)
            else:
                self._put(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)

    def _referred(self, value: Any, used: set[str], inside: set[int]) -> None:
        """A global, of a user's module that which a function may use of it."""
        if not isinstance(value, ModuleType):
            self.read(value)
        elif id(value) not in inside and not self._from_package(value):
            for name in sorted(used & vars(value).keys()):
                with self._at(value.__name__, name):
                    self._referred(vars(value)[name], used, {*inside, id(value)})

    def _file(self, place: str) -> None:
        found = files_of(place)
        self._packages |= found.parts
        self._unknown = self._unknown or found.unknown

    def _builtin(self, value: Any) -> None:
        owner = getattr(value, "__objclass__", getattr(value, "__self__", None))
        self._put(value.__qualname__)
        self.read(None if isinstance(owner, ModuleType) else owner)
        if isinstance(owner, ModuleType) and not self._from_package(owner):
            self._cannot(value)

    def _object(self, value: Any) -> None:
        self.read(type(value))
        try:
            reduced = value.__reduce_ex__(4)
        except Exception as error:  # it may be of any kind
            raise_machine_fault(error)
            self._cannot(value)
            return
        made_by, given, state, *items = ("", reduced, None) if isinstance(reduced, str) else (*reduced, None)
        self.read((made_by, given))
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self._attributes(type(value), part)
            else:
                self.read(part)
        for several in items:
            self.read((*several,) if several is not None else None)

    def _cannot(self, value: Any) -> None:
        self._unknown = self._unknown or f"{self._label} holds a {type(value).__name__}, which can't be read"

    def _from_package(self, value: Any) -> bool:
        """Whether a module, class or function is of a package that is installed, which its version tells."""
        package = _package(value)
        if package is not None:
            self._put(package[0], getattr(value, "__qualname__", value.__name__))
            if package[1]:
                self._packages[package[0]] = package[1]
        return package is not None


def _package(value: Any) -> tuple[str, str] | None:
    """The installed package that a module, class or function is of, and its version; None for the user's."""
    scope = getattr(value, "__globals__", vars(value))  # of a function, whatever it passes itself off as
    top = str(value.__module__ if isinstance(value, type) else scope.get("__name__")).partition(".")[0]
    if top in (*OURS, *sys.stdlib_module_names):
        return top, ""
    if top == "__main__":
        return None
    module = sys.modules.get(top)
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
    version = version_installed(top, place)
    return (top, version) if version else None


def _loaded_by(code: CodeType, *kinds: str) -> Iterator[str]:
    """Names that a function's code loads by operations of these kinds, those of functions inside it, too."""
    for step in dis.get_instructions(code):
        if any(kind in step.opname for kind in kinds) and not step.opname.startswith("STORE"):
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loaded_by(constant, *kinds)
