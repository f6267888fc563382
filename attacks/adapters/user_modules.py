"""Code that users name: ``package.module:name`` or ``some/where/file.py:name``.

Where it is looked for, importing it, what it takes, what to do about a module that can't be imported, and the
files that it consists of.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from importlib.machinery import PathFinder
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple


@contextmanager
def own_folders_first(*more: Path) -> Iterator[None]:
    """Looks for modules in the current folder first, as ``python -m`` does, and then in ``more``."""
    folders = [str(Path.cwd()), *map(str, more)]
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            if folder in sys.path:
                sys.path.remove(folder)


def file_named(place: str) -> Path | None:
    """The file that ``some/where/file.py`` names, whole; None for ``package.module``."""
    return Path(place).expanduser().resolve() if place.endswith(".py") else None


def object_named(spec: str) -> Callable[..., Any]:
    """The class or function of ``package.module:name`` or ``file.py:name``; this runs that module's code.

    Raises:
        ValueError: not of that form, no such module, file or name, nothing that can be called, or the module
            fails when imported; in one line, without ``spec``.
    """
    place, _, name = spec.rpartition(":")
    file = file_named(place)
    if not all(part.isidentifier() for part in [*(place.split(".") if file is None else ()), name]):
        raise ValueError("expected package.module:function or file.py:function")
    if file is not None and not file.is_file():
        raise ValueError(f"there is no file {place}")
    try:
        module = own_module(place)
    except (Exception, SystemExit) as error:  # the user's module can fail in any way
        reason = f"{type(error).__name__}: {error}"
        if not isinstance(error, ImportError):  # it reads a file that is missing, for example
            raise ValueError(f"{place} raised {reason}") from error
        raise ValueError(f"importing {place} failed ({reason}); {how_to_mend(error, place)}") from error
    named = getattr(module, name, None)
    if not callable(named):
        known = [each for each, thing in vars(module).items() if callable(thing) and not each.startswith("_")]
        raise ValueError(f"{place} has no function {name}; it has {', '.join(known[:8]) or 'none'}")
    return named


def takes(function: Callable[..., Any], positional: int, keywords: Mapping[str, Any]) -> bool:
    """True if it can be called so, as far as its signature tells."""
    try:
        inspect.signature(function).bind(*[None] * positional, **keywords)
    except TypeError:
        return False
    except ValueError:  # a builtin says nothing about itself
        return True
    return True


def own_module(place: str) -> ModuleType:
    """The module, which is looked for in the current folder first; what a file imports, beside it, too.

    Raises:
        Exception, SystemExit: whatever its code raises; ModuleNotFoundError or FileNotFoundError without one.
    """
    file = file_named(place)
    if file is None:
        with own_folders_first():
            return importlib.import_module(place)
    with own_folders_first(file.parent):
        return _of_file(file)


def _of_file(file: Path) -> ModuleType:
    """The module of a file, run once a process, under a name that no other module has."""
    name = f"{file.stem}_{hashlib.blake2b(str(file).encode(), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # the name ends with .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def how_to_mend(error: BaseException, module_name: str) -> str:
    """A clause: the module is not there, another one that it needs is not, or its own code fails."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None:
        run = module_name if module_name.endswith(".py") else f"-c 'import {module_name}'"
        return f"python {run} shows the whole error"
    if module_name == missing or module_name.startswith(f"{missing}."):
        return "it must be installed or lie in the current folder"
    return f"install {missing}, which it needs"


OURS = ("attacks", "robustbench_coded")  # their version is compared by itself
# By which code loads modules by names that it computes.
COMPUTING = ("import_module", "__import__", "spec_from_file_location", "run_path", "exec")
_COMPUTED = re.compile(rf"\b({'|'.join(COMPUTING)})\(".encode())


class Code(NamedTuple):
    """Identity of a user's code.

    Attributes:
        parts: a file, package, function or object, by name -> 12 hexadecimal digits, or a version.
        unknown: why there is more to it that can't be compared; empty where there is not.
        files: those of the user's that it consists of, as far as they are known.
    """

    parts: dict[str, str]
    unknown: str = ""
    files: tuple[Path, ...] = ()


def files_of(place: str) -> Code:
    """``package.module`` or ``file.py`` with every module of the user's that it imports, and the packages.

    Imports are read, not run: every process finds the same files, whatever it has loaded.
    """
    importlib.invalidate_caches()  # a file may be a moment old
    file = file_named(place)
    parts: dict[str, str] = {}
    files: dict[str, Path] = {}
    unknown = ""
    with own_folders_first(*(() if file is None else (file.parent,))):
        todo = [*_resolved(place, parts)] if file is None else [("", file)]
        while todo:
            name, path = todo.pop()
            label = name.replace(".", "/") + path.suffix if name else path.name
            if label in files or not is_readable(path):
                continue
            content, files[label] = path.read_bytes(), path
            parts[label] = digest_of(content)
            for imported in _imports(content, name, path):
                todo += _resolved(imported, parts)
            if _COMPUTED.search(content):
                unknown = f"{label} may load modules by names that it computes"
    return Code(parts, unknown, (*files.values(),))


def is_readable(path: Path | str) -> bool:
    """True if there is such a file, and this process may read it."""
    return os.path.isfile(path) and os.access(path, os.R_OK)  # noqa: PTH113 (a name may be too long for one)


def digest_of(content: bytes | memoryview) -> str:
    """12 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=6).hexdigest()


def _imports(content: bytes, module: str, path: Path) -> Iterator[str]:
    """Names that a file imports, also inside functions."""
    with suppress(SyntaxError, ValueError):  # importing it says what is wrong, if it is no library of C
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                parents = module.split(".")[: -node.level + (path.stem == "__init__") or None]
                start = [*(parents if node.level else ()), *([node.module] if node.module else ())]
                yield from (".".join([*start, alias.name]) for alias in node.names)


def _resolved(name: str, packages: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """Modules of the user's on the way to ``name``; a package that is installed is added with its version."""
    top, path = name.partition(".")[0], None
    if top in (*sys.stdlib_module_names, *OURS):
        return
    for whole in accumulate(name.split("."), "{}.{}".format):
        spec = PathFinder.find_spec(whole, path)
        if spec is None and path is None:
            with suppress(ValueError, ImportError):  # installed so that it is edited elsewhere
                spec = importlib.util.find_spec(whole)
        if spec and (version := version_installed(top, spec.origin or "")):
            packages[top] = version
        elif spec:
            yield from ((whole, Path(place)) for place in [spec.origin] if place)
        path = spec.submodule_search_locations if spec and top not in packages else None
        if path is None:
            return


def version_installed(top: str, origin: str) -> str:
    """The version of the package that a file belongs to; empty where it is the user's own file."""
    own = not {"site-packages", "dist-packages"} & {*Path(origin).parts}
    return "" if own else _version(top)


@functools.cache
def _version(top: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(top)
    named = metadata.packages_distributions().get(top)
    return metadata.version(named[0]) if named else "unknown"


_STARTED = time.time()
_loaded: dict[Path, str] = {}  # files of users -> what this process has loaded of them


def forget_changed(code: Code) -> None:
    """Lets a user's modules be imported anew if one of their files has changed since this process did it."""
    now = {path: digest_of(path.read_bytes()) for path in code.files}
    for path in now:
        with suppress(OSError):  # bytecode is taken for that of a file of the same second and size
            Path(importlib.util.cache_from_source(path)).unlink()
        if path.stat().st_mtime < _STARTED:  # else the program may have imported it before a change
            _loaded.setdefault(path, now[path])
    if not now.items() <= _loaded.items():
        for name, module in [*sys.modules.items()]:
            if getattr(module, "__file__", None) in {*map(str, now)}:
                del sys.modules[name]
                package, _, last = name.rpartition(".")
                vars(sys.modules.get(package, module)).pop(last, None)
    _loaded.update(now)
