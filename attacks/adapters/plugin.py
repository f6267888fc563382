"""Attacks of the user's own: ``package.module:name`` or ``some/where/file.py:name``, a class with ``perturb``
or a plain function.
"""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from types import ModuleType
from typing import Any

from attacks.adapters.user_modules import object_named, takes
from attacks.attack import Package, number_in

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


def _value(text: str) -> int | float | bool | str:
    """An option as Python would write it: 10, 0.5, 1/255, true, or else as text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if text.lstrip("-").isdecimal() else number_in(text)
    except (ValueError, ZeroDivisionError):
        return text


# How a function asks objects of other packages about the network that it is given, by package.
_ASKED = {
    "torchattacks": "{}(model, eps=eps)(x, y)",
    "pyautoattack": "{}(model, eps=eps).run_standard_evaluation(x, y)",
    "autoattack": "{}(model, eps=eps).run_standard_evaluation(x, y)",
    "foolbox": "{}()(foolbox.PyTorchModel(model, (0, 1)), x, y, epsilons=eps)[1]",
    "art": "torch.from_numpy({}(PyTorchClassifier(model, None, x.shape[1:], model(x).shape[1], "
    "clip_values=(0, 1)), eps=eps).generate(x.numpy(), y.numpy()))",
}


def written(attack: Any) -> str | None:
    """Why an attack object of another package is refused, and the function that runs it; None for others.

    It asks the network that it was made with, which is neither a defence nor counted, so that it is never run
    as it is.

    Args:
        attack: an object or a class of torchattacks, AutoAttack, foolbox or ART.
    """
    kind = attack if isinstance(attack, type) else type(attack)
    package, name = kind.__module__.partition(".")[0], kind.__name__
    if package not in _ASKED:
        return None
    line = f"lambda model, x, y, eps: {_ASKED[package].format(name)}"
    why = f"{name} of {package} asks the network that it was made with"
    return f"{why}; write attacks=[{line}], with its options"
