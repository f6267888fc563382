"""Defences that users bring: ``package.module:function`` is called with the model and returns one."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from robustbench_coded.defences.protocol import Defence
from robustbench_coded.defences.sampling_module import SamplingModule
from robustbench_coded.errors import InputError

_ATTRIBUTES: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "randomised": bool,
    "batch_dependent": bool,
    "base": (nn.Module, type(None)),
}
_METHODS: dict[str, tuple[str, ...]] = {"sample": ("generator", "k"), "logits": ("x", "draw")}


def load_plugin(target: str, model: nn.Module) -> Defence:
    """Calls ``package.module:function`` with ``model`` and takes what it returns as a defence.

    The module is looked for in the current folder, too. It may return an object with the attributes and
    methods of ``protocol.Defence``, or an ``nn.Module`` that samples inside itself, which becomes a
    ``SamplingModule``.

    Raises:
        InputError: the function is not found or fails, or its result lacks a part of the protocol.
    """
    build = _function(target)
    try:
        built = build(model)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"--defence {target}: it failed with {type(error).__name__}: {error}") from error
    speaks_protocol = all(callable(getattr(built, method, None)) for method in _METHODS)
    if isinstance(built, nn.Module) and not speaks_protocol:
        return SamplingModule(built, model, name=target.rpartition(".")[2].replace(":", "."))
    if wrong := _faults(built):
        raise InputError(f"--defence {target}: it returned {type(built).__name__}, {'; '.join(wrong)}")
    return built


def _function(target: str) -> Callable[[nn.Module], Any]:
    module_name, _, name = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        # It stays there: the module may import its neighbours when it is called.
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        found = "" if module_name.startswith(missing) else f" was found, but it imports {missing}, which"
        raise InputError(
            f"--defence {target}: module {module_name}{found} is not found from {here}"
        ) from error
    except Exception as error:
        raise InputError(
            f"--defence {target}: importing {module_name} failed with {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, name, None)
    if function is None:
        public = [other for other, value in vars(module).items() if callable(value)]
        near = difflib.get_close_matches(name, public, n=1)
        hint = f", did you mean {near[0]}?" if near else "; define it to take the model and return a defence"
        raise InputError(f"--defence {target}: {module_name} has no {name}{hint}")
    if not callable(function):
        raise InputError(f"--defence {target}: {name} is a {type(function).__name__}, not a function")
    return function


def _faults(built: Any) -> list[str]:
    """What keeps an object from being a ``Defence``, in words."""
    faults = []
    for name, kind in _ATTRIBUTES.items():
        if not hasattr(built, name):
            faults.append(f"which has no attribute {name!r}")
        elif not isinstance(getattr(built, name), kind):
            faults.append(f"whose {name!r} is {type(getattr(built, name)).__name__}, not {_named(kind)}")
    for name, arguments in _METHODS.items():
        method = getattr(built, name, None)
        if not callable(method):
            faults.append(f"which has no method {name}({', '.join(arguments)})")
        elif not _takes(method, len(arguments)):
            faults.append(f"whose {name} does not take ({', '.join(arguments)})")
    return faults


def _named(kind: type | tuple[type, ...]) -> str:
    return kind.__name__ if isinstance(kind, type) else "a model or None"


def _takes(method: Callable[..., Any], arguments: int) -> bool:
    try:
        inspect.signature(method).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:  # a callable without a readable signature
        return True
    return True
