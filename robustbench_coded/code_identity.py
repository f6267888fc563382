"""Identity of user code, in memory or behind a command, and of csrobust's own.

Code in memory is pickled into a hash: functions by bytecode, constants, defaults and all that they refer to,
classes by what they define, objects by their class and state, tensors and arrays by their bytes. What belongs
to installed packages counts by its name there and the package's version. What can't be pickled can't be
compared.
"""

import dis
import functools
import importlib.util
import io
import pickle
import random
import re
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

from attacks.adapters.user_modules import (
    COMPUTING,
    OURS,
    Code,
    digest_of,
    files_of,
    is_readable,
    version_installed,
)
from attacks.gradients import raise_machine_fault

# Each draw sets their state, or nothing repeats.
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
# What stands around functions, and by which attributes.
_AROUND = (MethodType, staticmethod, classmethod, property, functools.cached_property, CellType)
_WITHIN = ("__func__", "__self__", "fget", "fset", "fdel", "func", "__wrapped__", "cell_contents")
# By which a function reads any global of its module.
_WHOLE_SCOPE = {"globals", "eval", "f_globals", "__globals__"}

# Files of csrobust that decide outcomes.
_PACKAGES = ("coding", "data", "defences", "models", "extras/libraries", "extras/published")
_STAGES = ("execution", "planning", "protocol", "selftests")
_DECIDE = (
    "attacks/**/*.py",
    "robustbench_coded/schema/case.py",
    "robustbench_coded/evaluation/guard.py",
    *(f"robustbench_coded/{package}/**/*.py" for package in _PACKAGES),
    *(f"robustbench_coded/evaluation/{stage}/**/*.py" for stage in _STAGES),
)
_TRIPLE = r'"{3}(?:\\.|[^\\])*?"{3}'
# A docstring, a string that stays because it may hold a #, or a comment.
_SAYS_NOTHING = re.compile(
    rf"""\n *r?{_TRIPLE}(?=\n)|({_TRIPLE}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|#[^\n]*""", re.DOTALL
)


@functools.cache
def own_code() -> str:
    """12 hexadecimal digits for the code of csrobust that decides outcomes."""
    root = Path(__file__).parents[1]
    files = (file for part in _DECIDE for file in sorted(root.glob(part)))
    code = [(str(file.relative_to(root)), without_comments(file.read_text("utf-8"))) for file in files]
    return digest_of(repr(code).encode())


def without_comments(source: str) -> list[str]:
    """The lines of a file of csrobust without comments, docstrings and empty lines.

    A string in three quotes that begins and ends a line is a docstring. Parsing takes forty times as long.
    """
    lines = _SAYS_NOTHING.sub(r"\1", f"\n{source}").split("\n")
    return [line for line in map(str.rstrip, lines) if line]


def code_in_memory(given: Any, *, modes: bool = True) -> Code:
    """A function, class, module or any other object, as one part beside the packages that it uses.

    Args:
        modes: whether it counts which modules are in training mode.
    """
    pickler = _Pickler({}, [], modes=modes)
    try:
        digest = pickler.digest(given)
    except Exception as error:  # objects may refuse in any way
        raise_machine_fault(error)
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return Code({}, f"it holds what can't be read ({reason})")
    name = getattr(given, "__qualname__", type(given).__qualname__)
    parts = {name.replace("<locals>.", "").replace("<lambda>", "lambda"): digest, **pickler.packages}
    return Code(parts, next(iter(pickler.unknown), ""))


def arrays_in(built: Any) -> Code:
    """The tensors and arrays alone that an object holds, at any depth, as one part."""
    pickler = _Pickler({}, [])
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
        packages: versions of the packages that it came by.
        unknown: why there is more to what it came by than can be compared.
        arrays: digests of the tensors and arrays that it came by.
    """

    def __init__(self, packages: dict[str, str], unknown: list[str], *, modes: bool = True):
        self.packages, self.unknown, self._modes, self._stream = packages, unknown, modes, io.BytesIO()
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
            parts = (_Pickler(self.packages, self.unknown, modes=self._modes).digest(part) for part in value)
            return str(sorted(parts))
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
            self.packages[top] = version
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
            files = files_of(str(getattr(value, "__file__", value.__name__))).parts
            held = {name: vars(value)[name] for name in sorted(vars(value)) if name[:2] != "__"}
            return _as, (files,), held
        if isinstance(value, nn.Module):
            return _as, (), self._module(getattr(value, "_orig_mod", value))
        if isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType):
            return _as, (value.__name__, value.__self__)
        if isinstance(value, (*_AROUND, functools._lru_cache_wrapper)):
            return _as, (), [getattr(value, name) for name in _WITHIN if hasattr(value, name)]
        if self._reduces_itself(type(value)):  # and may leave out what it answers by
            made = value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
            parts = [[*part] if isinstance(part, Iterator) else part for part in made]
            return _as, (), (type(value), object.__getstate__(value), parts)
        return NotImplemented

    def _reduces_itself(self, kind: type) -> bool:
        """True if code of the user's says what is pickled of objects of a class."""
        ways = {"__getstate__", "__reduce__", "__reduce_ex__", "__getnewargs_ex__", "__getnewargs__"}
        bases = (base for base in kind.__mro__ if ways & vars(base).keys())
        return self._packaged(next(bases)) is None  # object has them

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
        own = (code, function.__defaults__, function.__kwdefaults__, vars(function), function.__closure__)
        codes = [*_codes_in(code)]
        names = {name for each in codes for name in each.co_names}
        paths = {path for each in codes for path in _paths_of(each)}
        if names & {*COMPUTING} or ("sys", "modules") in {path[:2] for path in paths}:
            self.unknown.append(f"{function.__qualname__} may load modules by names that it computes")
        if names & _WHOLE_SCOPE:
            paths |= {(name,) for name in scope if name[:2] != "__"}
        imported = [self._imported(scope, *each) for code in codes for each in _imports_of(code)]
        return own, imported, {path: self._at(scope, path) for path in sorted(paths) if path[0] in scope}

    def _at(self, scope: dict[str, Any], path: tuple[str, ...]) -> Any:
        """A global; of a user's module the attribute that a function reads, or all of it if it reads none."""
        value = scope[path[0]]
        for name in path[1:]:
            if (
                not isinstance(value, ModuleType)
                or name not in vars(value)
                or self._packaged(value) is not None
            ):
                break
            value = vars(value)[name]
        return value

    def _imported(self, scope: dict[str, Any], level: int, names: tuple[str, ...] | None, name: str) -> Any:
        """What a function imports when it is called: a user's module is imported now, to see its values."""
        try:
            whole = importlib.util.resolve_name("." * level + name, scope.get("__package__"))
            code = files_of(whole)
            module = __import__(whole, fromlist=names or ()) if code.files else None
        except (Exception, SystemExit):  # the function may expect it
            return name
        return code.parts, {each: getattr(module, each, None) for each in names} if names else module


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes_in(constant)


def _steps_of(code: CodeType) -> list[dis.Instruction]:
    return [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]


def _paths_of(code: CodeType) -> Iterator[tuple[str, ...]]:
    """Each global that is read, with the attributes that are read from it at once."""
    path: tuple[str, ...] = ()
    for step in _steps_of(code):
        if path and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            path += (step.argval,)
            continue
        if path:
            yield path
        starts = step.opname.startswith("LOAD") and ("NAME" in step.opname or "GLOBAL" in step.opname)
        path = (step.argval,) if starts else ()


def _imports_of(code: CodeType) -> Iterator[tuple[int, tuple[str, ...] | None, str]]:
    """Level, names and module of each import."""
    for level, names, step in zip(steps := _steps_of(code), steps[1:], steps[2:]):
        if step.opname == "IMPORT_NAME":
            yield level.argval, names.argval, step.argval
