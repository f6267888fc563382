"""What users name of their own code: ``package.module:name`` or ``some/where/file.py:name``.

Where it is looked for, importing it, what it takes, and what to do about a module that can't be imported.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any


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
        raise ValueError(f"importing {place} failed ({reason}); {how_to_mend(error, place)}") from error
    named = getattr(module, name, None)
    if not callable(named):
        known = [each for each, thing in vars(module).items() if callable(thing) and not each.startswith("_")]
        raise ValueError(f"{place} has no function {name}; it has {', '.join(known[:8]) or 'none'}")
    return named


def takes(function: Callable[..., Any], positional: int, keywords: Mapping[str, Any]) -> bool:
    """Whether it can be called so, as far as its signature tells."""
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
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None and found.loader is not None  # the name ends with .py
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    try:
        found.loader.exec_module(module)
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
