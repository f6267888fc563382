"""Functions of the user's own code, named ``package.module:function`` on the command line."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attacks.adapters.import_failure import how_to_mend
from robustbench_coded.errors import InputError, described


@contextmanager
def current_folder_first() -> Iterator[None]:
    """Looks for modules in the current folder first, as ``python -m`` does."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def import_function(spec: str, option: str) -> Callable[..., Any]:
    """Imports ``package.module:function``; this runs that module's code.

    Args:
        spec: what the user wrote.
        option: the option it was given to, for messages.
    Raises:
        InputError: not of that form, no such module or function, or the module fails when imported.
    """
    module_name, _, function_name = spec.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), function_name]):
        raise InputError(f"{option} {spec}: expected package.module:function")
    try:
        with current_folder_first():
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the user's module can fail in any way
        mend = how_to_mend(error, module_name)
        raise InputError(
            f"{option} {spec}: importing {module_name} failed ({described(error)}); {mend}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"{option} {spec}: {module_name} has no function {function_name}")
    return function
