"""Plain and coded generators over seeds, trained into one folder, and the report on them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.paper.generation.config import GanConfig, GeneratorPoint
from robustbench_coded.paper.generation.features import (
    Classifier,
    answers,
    frechet_distance,
    inception_score,
    moments,
)
from robustbench_coded.paper.generation.report import FACTS, write_gan_report
from robustbench_coded.paper.generation.train import train
from robustbench_coded.runs.atomic import remove_unfinished, write_text

Said = Callable[[int, GeneratorPoint | None], None]


def study(
    configs: Sequence[GanConfig],
    features: str,
    folder: Path,
    *,
    seeds: int,
    data_dir: Path | None = None,
    device: str = "cpu",
    quiet: bool = False,
) -> Path:
    """Trains every configuration with ``seeds`` seeds, measures them by one network, and reports.

    The same call goes on where it stopped. The seeds come first, so that a stopped study has all variants.

    Args:
        configs: variants of one training, with the first seed.
        features: checkpoint whose features and answers images are measured by.

    Raises:
        InputError: data, checkpoint, options or the folder are not usable.
    """
    first = configs[0]
    data = load_data(first.data, data_dir=data_dir, split="train")
    held_out = load_data(first.data, data_dir=data_dir)
    if min(len(data), len(held_out)) < 2:
        raise InputError(f"--data {first.data}: one image has no covariance; give 2 or more")
    on = torch.device(device)
    network = Classifier(features, held_out, on)
    _check_same(folder, network)
    runs = list(dict.fromkeys(config.seeded(config.seed + i) for i in range(seeds) for config in configs))
    with _Bar(runs, quiet) as bar:
        real = moments(
            answers(network, data.batch(range(len(data)))[0], bar.measuring("training images", len(data)))[0]
        )
        beside, test = answers(
            network, held_out.batch(range(len(held_out)))[0], bar.measuring("test images", len(held_out))
        )
        facts: dict[str, Any] = {
            "data": first.data,
            "images": len(data),
            "features": network.name,
            "test_distance": frechet_distance(moments(beside), real),
            "test_score": inception_score(test),
            "seeds": seeds,
            "iterations": first.iterations,
            "config": {
                name: value for name, value in asdict(first).items() if name not in ("n", "seed", "data")
            },
        }
        write_text(folder / FACTS, json.dumps(facts, indent=1) + "\n")
        remove_unfinished(folder)  # of a command that was killed

        def measured(images: Tensor) -> tuple[float, float]:
            features, probabilities = answers(network, images)
            return frechet_distance(moments(features), real), inception_score(probabilities)

        for config in runs:
            train(config, data, measured, folder / config.name, device=on, said=bar.of(config))
            write_gan_report(folder)
    return folder


def _check_same(folder: Path, network: Classifier) -> None:
    """Figures of two networks never share a folder.

    Raises:
        InputError: what the folder holds was measured by another one.
    """
    try:
        before = json.loads((folder / FACTS).read_text())["features"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if before != network.name:
        raise InputError(f"{folder} was measured by {before}, not by {network.name}; give another --out")


class _Bar:
    """A bar at a terminal; in a log a line for every training that has come to its end."""

    def __init__(self, runs: Sequence[GanConfig], quiet: bool):
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        self._console, self._runs, self._quiet = console, runs, quiet

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._progress.disable:  # older versions of rich print an empty line all the same
            self._progress.stop()

    def measuring(self, what: str, count: int) -> Callable[[int], None]:
        """Is told how many more of ``count`` images the network has answered."""
        task = self._progress.add_task(f"measuring {count:,} {what}", total=count)
        return lambda more: self._progress.advance(task, more)

    def of(self, config: GanConfig) -> Said:
        title = f"{config.name} ({self._runs.index(config) + 1} of {len(self._runs)})"
        task = self._progress.add_task(title, total=config.iterations)

        def said(iteration: int, point: GeneratorPoint | None) -> None:
            self._progress.update(task, completed=iteration)
            if point is not None and iteration == config.iterations and not self._quiet:
                text = f"{title}: FD {point.distance:.3f}, IS {point.score:.3f}"
                self._console.print(text, markup=False, highlight=False)

        return said
