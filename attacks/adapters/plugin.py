"""Attacks of the user's own: ``package.module:name`` or ``some/where/file.py:name``, a class with ``perturb``
or a plain function.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attacks.adapters.third_party import seeded_from
from attacks.adapters.user_modules import file_named, how_to_mend, own_module
from attacks.attack import Attack
from attacks.attack_name import AttackName
from attacks.perturbation_budget import PerturbationBudget

_PERTURB = "perturb(x, y, estimator, budget, generators, start)"


def load(name: AttackName) -> Attack | Callable[..., Tensor]:
    """Imports what the name means; this runs the user's code.

    A class is called with the name's options, and what it builds has ``perturb`` as ``attacks.attack.Attack``
    has. Anything else that can be called is a function ``(model, x, y, eps=...)`` that returns the perturbed
    inputs of one batch, the options being further keyword arguments.

    Raises:
        ValueError: in one line, what is missing or does not fit.
    """
    module_name, _, object_name = name.algorithm.rpartition(":")
    found = _imported(module_name, object_name, name.text)
    options = {option: _value(text) for option, text in name.options}
    if inspect.isclass(found):
        try:
            attack: Any = found(**options)
        except Exception as error:  # the user's class can fail in any way
            given = ", ".join(f"{option}={value!r}" for option, value in options.items())
            raise ValueError(
                f"{name.text}: {object_name}({given}) raised {type(error).__name__}: {error}"
            ) from error
        if not callable(getattr(attack, "perturb", None)):
            raise ValueError(f"{name.text}: {object_name} has no method {_PERTURB}")
        if not _takes(attack.perturb, 6, {}):
            raise ValueError(f"{name.text}: {object_name}.perturb does not take {_PERTURB[7:]}")
        built: Attack = attack
        return built
    if not callable(found):
        raise ValueError(f"{name.text}: {object_name} is neither a class nor a function")
    if not _takes(found, 3, {"eps": 0.0, **options}):
        wanted = ", ".join(["model", "x", "y", "eps", *options])
        raise ValueError(f"{name.text}: {object_name} does not take ({wanted})")
    return partial(found, **options)


def run(
    name: AttackName,
    view: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    budget: PerturbationBudget,
    generator: torch.Generator,
) -> tuple[Tensor, None]:
    """The function's result for one batch; it has no say on what stands.

    Raises:
        ValueError: the result is not a tensor like ``x``, or not finite.
    """
    function = load(name)
    assert callable(function)
    with seeded_from(generator):
        found = function(view, x.clone(), y, eps=budget.eps)
    return checked(name, found, x), None


def checked(name: AttackName, found: Any, x: Tensor) -> Tensor:
    """The result of a user's attack, if it is one: like ``x``, and finite."""
    if not isinstance(found, Tensor) or found.shape != x.shape:
        said = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{name.text}: expected perturbed inputs {tuple(x.shape)}, got {said}")
    if not bool(found.isfinite().all()):
        raise ValueError(f"{name.text}: expected finite perturbed inputs, got NaN or infinity")
    return found.detach()


def _imported(module_name: str, object_name: str, text: str) -> Any:
    file = file_named(module_name)
    if file is not None and not file.is_file():
        raise ValueError(f"{text}: there is no file {module_name}")
    try:
        module = own_module(module_name)
    except (Exception, SystemExit) as error:  # the user's module can fail in any way
        raise ValueError(
            f"{text}: importing {module_name} failed ({type(error).__name__}: {error}); "
            f"{how_to_mend(error, module_name)}"
        ) from error
    if not hasattr(module, object_name):
        names = [n for n, thing in vars(module).items() if callable(thing) and not n.startswith("_")]
        raise ValueError(
            f"{text}: {module_name} has no {object_name}; it has {', '.join(names[:8]) or 'nothing to call'}"
        )
    return getattr(module, object_name)


def _takes(function: Callable[..., Any], positional: int, keywords: Mapping[str, Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # a builtin says nothing about itself
        return True
    try:
        signature.bind(*[None] * positional, **keywords)
    except TypeError:
        return False
    return True


def _value(text: str) -> int | float | bool | str:
    """An option as Python would write it: 10, 0.5, 1/255, true, or else as text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    over, _, under = text.partition("/")
    try:
        return int(text) if text.lstrip("-").isdecimal() else float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError):
        return text
