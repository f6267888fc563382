"""Modules of the user's own code: ``package.module``, or ``some/where/file.py``.

file_named(place) -> Path | None    the file, whole; None for package.module
own_module(place) -> module         imported; this runs its code
"""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from attacks.adapters.own_folders import own_folders_first


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
