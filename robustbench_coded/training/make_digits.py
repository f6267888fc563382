"""``python -m robustbench_coded.training.make_digits`` makes the digits checkpoints of this repository again.

Run in the root of the repository. Each ``recipes/digits-NAME.toml`` becomes a file in ``checkpoints/``, whose
``manifest.toml`` says what they are. On one machine the files come out the same to the byte.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch

from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import write_text
from robustbench_coded.training.config import TrainConfig
from robustbench_coded.training.loop import TrainResult, train
from robustbench_coded.training.progress import ProgressBar
from robustbench_coded.training.recipe_file import read_recipe
from robustbench_coded.training.recipes.registry import recipe_name, recipe_options

SHIPPED = ("erm", "mixup", "coded", "pgd-at")


def make_digits(recipes: Path = Path("recipes"), out: Path = Path("checkpoints")) -> None:
    """Trains the shipped digits checkpoints into ``out`` and writes their manifest.

    Raises:
        InputError: a recipe file is missing or wrong.
    """
    # Sums are split among threads, so their number is part of the result.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        entries = []
        for name in SHIPPED:
            source = recipes / f"digits-{name}.toml"
            config = read_recipe(source, device="cpu")
            file = out / f"digits-{name}.safetensors"
            result = train(config, file, listeners=[ProgressBar(file.stem)])
            entries.append(manifest_entry(file, source, config, result))
    finally:
        torch.set_num_threads(threads)
    command = "python -m robustbench_coded.training.make_digits"
    write_text(out / "manifest.toml", f"# Made by: {command}\n\n" + "\n".join(entries))


def manifest_entry(file: Path, source: Path, config: TrainConfig, result: TrainResult) -> str:
    """The table of one checkpoint, as TOML."""
    options = ", ".join(f"{name} = {_toml(value)}" for name, value in recipe_options(config.recipe).items())
    lines = {
        "arch": config.arch,
        "data": config.data,
        "recipe": recipe_name(config.recipe),
        "made_from": source.as_posix(),
        "seed": config.seed,
        "epochs": config.total_epochs,
        "accuracy": round(result.test.accuracy, 4),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    body = "".join(f"{name} = {_toml(value)}\n" for name, value in lines.items())
    return f'["{file.name}"]\n{body}options = {{ {options} }}\n'.replace("{  }", "{}")


def _toml(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    return str(value)


if __name__ == "__main__":
    try:
        make_digits()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
