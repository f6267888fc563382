"""``python -m robustbench_coded.training.make_checkpoints`` makes the checkpoints of this repository again.

Run in the root of the repository. Without arguments it makes the digits checkpoints that the embedded example
compares, with recipe files those. On one machine a file comes out the same to the byte.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from robustbench_coded.errors import InputError
from robustbench_coded.threads import torch_threads
from robustbench_coded.training.loop import train
from robustbench_coded.training.manifest import record
from robustbench_coded.training.progress import ProgressBar
from robustbench_coded.training.recipe_file import read_recipe

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
            record(source, config, train(config, file, listeners=[ProgressBar(file.stem)]))


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m robustbench_coded.training.make_checkpoints")
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
