"""Functions of the user's own code: ``package.module:function``, or ``some/where/file.py:function``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attacks.adapters.user_modules import file_named, how_to_mend, own_module
from robustbench_coded.errors import InputError, described


def beside(spec: str) -> tuple[Path, ...]:
    """The folder of the file that a spec names, for `own_folders_first`; nothing for a module."""
    file = file_of(spec)
    return () if file is None else (file.parent,)


def file_of(spec: str) -> Path | None:
    """The file that ``some/where/file.py:function`` names, whole; None for ``package.module:function``."""
    return file_named(spec.rpartition(":")[0])


def shown_name(spec: str) -> str:
    """What names the code where it has no name of its own: ``module.function``."""
    place, _, function = spec.rpartition(":")
    file = file_of(spec)
    return f"{place.rpartition('.')[2] if file is None else file.stem}.{function}"


def import_function(spec: str, option: str) -> Callable[..., Any]:
    """Imports ``package.module:function`` or ``file.py:function``; this runs that module's code.

    Args:
        spec: what the user wrote.
        option: the option it was given to, for messages.
    Raises:
        InputError: not of that form, no such module, file or function, or the module fails when imported.
    """
    place, _, function_name = spec.rpartition(":")
    file = file_of(spec)
    module_parts = place.split(".") if file is None else []
    if not all(part.isidentifier() for part in [*module_parts, function_name]):
        raise InputError(f"{option} {spec}: expected package.module:function or file.py:function")
    if file is not None and not file.is_file():
        raise InputError(f"{option} {spec}: there is no file {place}")
    try:
        module = own_module(place)
    except (Exception, SystemExit) as error:  # the user's module can fail in any way
        mend = how_to_mend(error, place)
        raise InputError(f"{option} {spec}: importing {place} failed ({described(error)}); {mend}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"{option} {spec}: {place} has no function {function_name}")
    return function
