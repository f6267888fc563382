"""Attacks of the user's own: ``package.module:name`` or ``some/where/file.py:name``, a class with ``perturb``
or a plain function.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from attacks.adapters.third_party import seeded_from
from attacks.adapters.user_modules import object_named, takes
from attacks.attack import Package, number_in
from attacks.perturbation_budget import PerturbationBudget

_PERTURB = "perturb(x, y, estimator, budget, generators, start)"


def load(name: Package) -> Any:
    """Imports what the name means; this runs the user's code.

    A class is called with the name's options, and what it builds has ``perturb`` as ``attacks.solver.Solver``
    has. Anything else that can be called is a function ``(model, x, y, eps=...)`` that returns the perturbed
    inputs of one batch, the options being further keyword arguments.

    Raises:
        ValueError: in one line, what is missing or does not fit.
    """
    object_name = name.algorithm.rpartition(":")[2]
    try:
        factory = object_named(name.algorithm)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error.__cause__  # where the user's code failed
    options = {option: _value(text) for option, text in name.options}
    if inspect.isclass(factory):
        try:
            attack: Any = factory(**options)
        except Exception as error:  # the user's class can fail in any way
            given = ", ".join(f"{option}={value!r}" for option, value in options.items())
            raise ValueError(
                f"{name}: {object_name}({given}) raised {type(error).__name__}: {error}"
            ) from error
        if not callable(getattr(attack, "perturb", None)):
            raise ValueError(f"{name}: {object_name} has no method {_PERTURB}")
        if not takes(attack.perturb, 6, {}):
            raise ValueError(f"{name}: {object_name}.perturb does not take {_PERTURB[7:]}")
        return attack
    if not takes(factory, 3, {"eps": 0.0, **options}):
        wanted = ", ".join(["model", "x", "y", "eps", *options])
        raise ValueError(f"{name}: {object_name} does not take ({wanted})")
    return partial(factory, **options)


IN_MEMORY = ModuleType("in_memory")  # attacks that a program has at hand, by name


def keep(attacks: Sequence[str | Callable[..., Any]]) -> list[str]:
    """Names by which `load` finds functions and classes of this process, ``in_memory:mine``; texts stay.

    Another one of the same name is ``in_memory:mine_2``.
    """
    sys.modules[IN_MEMORY.__name__] = IN_MEMORY
    by_name: dict[str, Any] = {}
    names = []
    for attack in attacks:
        if isinstance(attack, str):
            names.append(attack)
            continue
        function = getattr(attack, "func", attack)  # of a partial
        name = named = re.sub(r"\W", "", getattr(function, "__name__", type(attack).__name__)) or "attack"
        numbers = count(2)
        while by_name.setdefault(name, attack) is not attack:
            name = f"{named}_{next(numbers)}"
        names.append(f"{IN_MEMORY.__name__}:{name}")
    vars(IN_MEMORY).update(by_name)
    return names


def run(
    name: Package,
    view: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    budget: PerturbationBudget,
    generator: torch.Generator,
) -> Any:
    """The function's result for one batch, unchecked."""
    function = load(name)
    assert callable(function)
    with seeded_from(generator):
        return function(view, x.clone(), y, eps=budget.eps)


def _value(text: str) -> int | float | bool | str:
    """An option as Python would write it: 10, 0.5, 1/255, true, or else as text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if text.lstrip("-").isdecimal() else number_in(text)
    except (ValueError, ZeroDivisionError):
        return text


TORCHATTACKS, AUTOATTACK, FOOLBOX, ART = "torchattacks", "autoattack", "foolbox", "art"
_PACKAGES = {name: name for name in (TORCHATTACKS, AUTOATTACK, FOOLBOX, ART)} | {"pyautoattack": AUTOATTACK}
# What an evaluation says itself, or what changes no result.
_OURS = ("model", "eps", "norm", "seed", "n_classes", "verbose", "batch_size")


def written(attack: Any) -> str | None:
    """Why an attack object of another package is refused, and the argument that runs it; None for others.

    It asks the network that it was made with, which is neither a defence nor counted, so that it is never run
    as it is.

    Args:
        attack: an object or a class of torchattacks, AutoAttack, foolbox or ART.
    """
    kind = attack if isinstance(attack, type) else type(attack)
    package = _PACKAGES.get(kind.__module__.partition(".")[0])
    if package is None:
        return None
    if package == TORCHATTACKS:
        options = _numbers(attack, inspect.signature(kind).parameters)
        more = "".join(f"+{name}={value}" for name, value in options.items())
        line = f'"torchattacks:{kind.__name__}{more}"'
    elif package == AUTOATTACK:
        line = f'"autoattack:{getattr(attack, "version", "standard")}"'
    elif package == FOOLBOX:
        line = "lambda model, x, y, eps: attack(foolbox.PyTorchModel(model, (0, 1)), x, y, epsilons=eps)[1]"
    else:
        classifier = "PyTorchClassifier(model, None, x.shape[1:], model(x).shape[1], clip_values=(0, 1))"
        options = _numbers(attack, getattr(kind, "attack_params", ()))
        given = "".join(f", {name}={value}" for name, value in options.items())
        line = (
            "lambda model, x, y, eps: torch.from_numpy("
            f"{kind.__name__}({classifier}, eps=eps{given}).generate(x.numpy(), y.numpy()))"
        )
    radius = getattr(attack, "eps", getattr(attack, "epsilon", None))
    eps = f", eps={radius:.6g}" if isinstance(radius, int | float) else ""
    return f"{kind.__name__} of {package} asks the network that it was made with; write attacks=[{line}]{eps}"


def _numbers(attack: Any, names: Iterable[str]) -> dict[str, int | float]:
    """Arguments of the constructor that the object still has; none of a class."""
    held = {} if isinstance(attack, type) else vars(attack)
    values = {name: held.get(name) for name in names if name not in _OURS}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}
