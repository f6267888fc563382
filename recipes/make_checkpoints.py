"""``python recipes/make_checkpoints.py`` makes the checkpoints of this repository again.

Run in the root of the repository. Without arguments it makes the digits checkpoints that the embedded example
compares, with recipe files those. On one machine a file comes out the same to the byte.
``checkpoints/manifest.toml`` says what the files are.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.paper.training.config import TrainConfig, read_recipe, recipe_name, recipe_options
from robustbench_coded.paper.training.loader import Progress
from robustbench_coded.paper.training.loop import TrainResult, train
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.threads import torch_threads

NAME = "manifest.toml"
_HEADER = "# Made again by: python recipes/make_checkpoints.py RECIPE\n"


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
    metadata: dict[str, Any] = {}
    if config.start is not None:
        metadata["start"] = config.start
    if config.defence is not None and result.defended is not None:
        metadata |= {"defence": config.defence, "defended_accuracy": round(result.defended.accuracy, 4)}
    return metadata


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


DIGITS = tuple(Path("recipes") / f"digits-{name}.toml" for name in ("erm", "mixup", "coded", "pgd-at"))


def make_checkpoints(
    recipes: Sequence[Path], out: Path, *, threads: int = 1, data_dir: Path | None = None
) -> None:
    """Makes ``out/NAME.safetensors`` of each ``NAME.toml``, on the CPU, and enters it into the manifest.

    Args:
        recipes: files as in ``recipes/``.
        out: the folder.
        threads: of torch. Sums are split among threads, so another number gives other last digits.
        data_dir: where named data are looked for first.
    Raises:
        InputError: a recipe is missing or wrong, or its data are.
    """
    with torch_threads(threads):
        for source in recipes:
            config = read_recipe(source, device="cpu", data_dir=data_dir)
            file = out / f"{source.stem}.safetensors"
            record(source, config, train(config, file, bar=Progress(file.stem)))


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python recipes/make_checkpoints.py")
    parser.add_argument(
        "recipe", type=Path, nargs="*", default=DIGITS, help="default: the digits checkpoints"
    )
    parser.add_argument("--out", type=Path, default=Path("checkpoints"), help="default: checkpoints")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--data-dir", type=Path, help="where CIFAR is looked for first")
    given = parser.parse_args()
    try:
        make_checkpoints(given.recipe, given.out, threads=given.threads, data_dir=given.data_dir)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
