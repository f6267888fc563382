"""``checkpoints/manifest.toml``: what the files in that folder are, and how they were made."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

from robustbench_coded.runs.atomic import write_text
from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.loop import TrainResult
from robustbench_coded.training.recipes.registry import recipe_name, recipe_options

NAME = "manifest.toml"
_HEADER = "# Made again by: python -m robustbench_coded.training.make_checkpoints RECIPE\n"


def record(source: Path, config: TrainConfig, result: TrainResult) -> None:
    """Writes or replaces the entry of one checkpoint in the manifest of its folder.

    Args:
        source: the recipe file.
        config: what it says.
        result: what came out.
    """
    manifest = result.checkpoint.parent / NAME
    entries = tomllib.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    entries[result.checkpoint.name] = {
        "arch": config.arch,
        "data": config.data,
        "recipe": recipe_name(config.recipe),
        "options": recipe_options(config.recipe),
        "made_from": source.as_posix(),
        "seed": config.seed,
        "epochs": config.total_epochs,
        "accuracy": round(result.test.accuracy, 4),
        **_further(config, result),
        "sha256": hashlib.sha256(result.checkpoint.read_bytes()).hexdigest(),
    }
    write_text(manifest, _HEADER + "".join(_table(name, entries[name]) for name in sorted(entries)))


def _further(config: TrainConfig, result: TrainResult) -> dict[str, Any]:
    """Where the weights started from and the defence that they were trained behind, if there were any."""
    found: dict[str, Any] = {}
    if config.start is not None:
        found["start"] = config.start
    if config.defence is not None and result.defended is not None:
        found |= {"defence": config.defence, "defended_accuracy": round(result.defended.accuracy, 4)}
    return found


def _table(name: str, entry: dict[str, Any]) -> str:
    return f"\n[{_toml(name)}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in entry.items())


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {_toml(entry)}" for key, entry in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    return str(value)
