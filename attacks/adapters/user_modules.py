"""Modules of the user's own code, ``package.module`` or ``some/where/file.py``.

Where they are looked for, importing them, and what to do about one that can't be imported.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


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
