"""Recipes by name, with their options checked."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.training.recipes.coded import Coded
from robustbench_coded.training.recipes.erm import Erm
from robustbench_coded.training.recipes.manifold_mixup import ManifoldMixup
from robustbench_coded.training.recipes.mixup import Mixup
from robustbench_coded.training.recipes.pgd_at import PgdAt
from robustbench_coded.training.recipes.recipe import Recipe
from robustbench_coded.training.recipes.trades import Trades

RECIPES: dict[str, type] = {
    "erm": Erm,
    "mixup": Mixup,
    "manifold-mixup": ManifoldMixup,
    "coded": Coded,
    "pgd-at": PgdAt,
    "trades": Trades,
}

# What each option may be: lowest and highest value.
_RANGES: dict[str, tuple[float, float]] = {
    "alpha": (1e-3, math.inf),
    "mu": (0, 1),
    "n_start": (0.05, 100),
    "n_end": (0.05, 100),
    "eps": (0, 1),
    "steps": (1, math.inf),
    "step_size": (0, 1),
    "beta": (0, 1e6),
}


def build_recipe(name: str, options: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe with its paper's settings, or with those given in ``options``.

    Raises:
        InputError: unknown name, unknown option, or a value out of range.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"unknown recipe {name!r}; {hint}known: {', '.join(RECIPES)}")
    kind = RECIPES[name]
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    values = {}
    for option, value in (options or {}).items():
        if option not in defaults:
            raise InputError(
                f"recipe {name} has no option {option!r}; it has {', '.join(defaults) or 'none'}"
            )
        values[option] = _checked(name, option, value, defaults[option])
    return kind(**values)


def recipe_options(recipe: Recipe) -> dict[str, Any]:
    """The options of a recipe as plain values, for metadata."""
    return dataclasses.asdict(recipe)  # type: ignore[call-overload]


def recipe_name(recipe: Recipe) -> str:
    """The name that ``build_recipe`` knows it by."""
    return next(name for name, kind in RECIPES.items() if isinstance(recipe, kind))


def _checked(recipe: str, option: str, value: Any, default: Any) -> Any:
    """``value`` in the type of ``default``, within its range."""
    where = f"recipe {recipe}: {option} = {value!r}"
    if isinstance(default, tuple):
        whole = isinstance(value, list | tuple) and all(type(v) is int and v >= 0 for v in value)
        if not whole:
            raise InputError(f"{where}; give block numbers from 0, for example [0, 1]")
        return tuple(value)
    if isinstance(default, str):
        if option == "nodes" and value not in ("chebyshev", "uniform"):
            raise InputError(f"{where}; give chebyshev or uniform")
        return value
    if option == "order" and value not in (1, 3, 5):
        raise InputError(f"{where}; give 1, 3 or 5")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where}; give a number")
    if isinstance(default, int) and value != int(value):
        raise InputError(f"{where}; give a whole number")
    low, high = _RANGES.get(option, (-math.inf, math.inf))
    if not low <= value <= high:
        raise InputError(f"{where}; give a number from {low:g} to {high:g}")
    return type(default)(value)
