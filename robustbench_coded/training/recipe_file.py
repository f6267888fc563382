"""Training runs written down as TOML files."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.recipes.registry import build_recipe


def read_recipe(path: Path, **overrides: Any) -> TrainConfig:
    """Reads a run: the fields of ``TrainConfig``, and a table ``[recipe]`` with a name and options.

    Args:
        path: the TOML file.
        overrides: fields that replace those of the file.
    Raises:
        InputError: missing or malformed file, unknown fields, values out of range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); give a TOML file like those in recipes/"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML ({error})") from error
    recipe = values.pop("recipe", {"name": "erm"})
    if not isinstance(recipe, dict) or not isinstance(recipe.get("name"), str):
        raise InputError(f'{path}: [recipe] needs a name, for example name = "coded"')
    options = {key: value for key, value in recipe.items() if key != "name"}
    fields = {field.name for field in dataclasses.fields(TrainConfig)} - {"recipe"}
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"{path}: unknown entry {name!r}; {hint}known: {', '.join(sorted(fields))}")
    for name in ("arch", "data"):
        if name not in values and name not in overrides:
            raise InputError(f"{path}: {name} is missing")
    if isinstance(values.get("milestones"), list):
        values["milestones"] = tuple(values["milestones"])
    values["recipe"] = build_recipe(recipe["name"], options)
    return TrainConfig(**{**values, **overrides})
