"""Attacks of the torchattacks package (arXiv 2010.01950)."""

import inspect
import io
from contextlib import redirect_stdout
from typing import Any

import torch
import torchattacks
from torch import Tensor

from attacks.adapters.third_party import seeded_from
from attacks.attack import TORCHATTACKS_L2, TORCHATTACKS_LINF, Package, number_in
from attacks.perturbation_budget import PerturbationBudget


def run(
    name: Package,
    view: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    budget: PerturbationBudget,
    generator: torch.Generator,
) -> Tensor:
    """The package's result for one batch.

    Options are the constructor's. A default step size, which the package states for its default eps, is
    scaled to the budget's eps unless the name gives it.

    Raises:
        ValueError: the attack has no such norm or option.
    """
    known = {"linf": TORCHATTACKS_LINF, "l2": TORCHATTACKS_L2}.get(budget.norm, ())
    if not known:
        raise ValueError(f"expected norm linf or l2 for torchattacks, got {budget.norm} for {name}")
    if name.algorithm not in known:
        raise ValueError(f"expected one of {', '.join(known)} for {budget.norm}, got {name}")
    attack_class = getattr(torchattacks, name.algorithm)
    parameters = dict(inspect.signature(attack_class.__init__).parameters)
    for fixed in ("self", "model"):
        parameters.pop(fixed)
    settings = _settings(name, parameters, budget)
    with seeded_from(generator) as seed, redirect_stdout(io.StringIO()):
        if "seed" in parameters:
            settings["seed"] = seed
        if "n_classes" in parameters:
            with torch.no_grad():
                settings["n_classes"] = view(x).shape[1]
        attack = attack_class(view, **settings)
        attack.set_device(x.device)
        return attack(x.clone(), y)


def _settings(
    name: Package, parameters: dict[str, inspect.Parameter], budget: PerturbationBudget
) -> dict[str, Any]:
    eps_name = "eps" if "eps" in parameters else "max_epsilon"
    settings: dict[str, Any] = {eps_name: budget.eps}
    if "norm" in parameters:
        settings["norm"] = {"linf": "Linf", "l2": "L2"}[budget.norm]
    if "alpha" in parameters:
        settings["alpha"] = parameters["alpha"].default * budget.eps / parameters[eps_name].default
    free = [
        option for option in parameters if option not in (eps_name, "norm", "seed", "n_classes", "verbose")
    ]
    for option, value in name.options:
        if option not in free:
            raise ValueError(f"expected an option out of {', '.join(free)}, got {option} in {name}")
        settings[option] = _typed(value, parameters[option].default, name)
    return settings


def _typed(value: str, default: Any, text: Package) -> Any:
    """``value`` converted to the type of the constructor's default."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(default, int):
            return int(value)
        if isinstance(default, float):
            return number_in(value)
    except (ValueError, KeyError, ZeroDivisionError):
        raise ValueError(f"expected a {type(default).__name__}, got {value!r} in {text}") from None
    return value
