"""Plain and coded generators over seeds, trained in turn into one folder, and the report on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robustbench_coded.data.registry import load_data
from robustbench_coded.generation.config import GanConfig
from robustbench_coded.generation.distances import frechet_distance, inception_score
from robustbench_coded.generation.features import Classifier
from robustbench_coded.generation.records import Point
from robustbench_coded.generation.report import FACTS, write_gan_report
from robustbench_coded.generation.tensorboard import logged
from robustbench_coded.generation.train import train
from robustbench_coded.runs.atomic import write_text


def study(
    configs: Sequence[GanConfig],
    features: str,
    folder: Path,
    *,
    seeds: int,
    data_dir: Path | None = None,
    device: str = "cpu",
    quiet: bool = False,
    tensorboard: Path | None = None,
) -> Path:
    """Trains every configuration with ``seeds`` seeds, measures them by one classifier, and reports.

    The same call goes on where it stopped. The seeds come first, so that a stopped study has all variants.

    Args:
        configs: variants of one training, with the first seed.
        features: checkpoint whose features and answers images are measured by.
        tensorboard: folder for TensorBoard's logs, a folder of it for each training.

    Raises:
        InputError: data, checkpoint, options or the folder are not usable, or TensorBoard is not installed.
    """
    first = configs[0]
    data = load_data(first.data, data_dir=data_dir, split="train")
    held_out = load_data(first.data, data_dir=data_dir)
    on = torch.device(device)
    classifier = Classifier(features, held_out, on)
    real = classifier(data.batch(range(len(data)))[0])[0]
    beside, answers = classifier(held_out.batch(range(len(held_out)))[0])

    def measure(images: torch.Tensor) -> tuple[float, float]:
        found, probabilities = classifier(images)
        return frechet_distance(found, real), inception_score(probabilities)

    facts: dict[str, Any] = {
        "data": first.data,
        "images": len(data),
        "features": classifier.name,
        "test_distance": frechet_distance(beside, real),
        "test_score": inception_score(answers),
        "seeds": seeds,
        "iterations": first.iterations,
        "config": {name: value for name, value in asdict(first).items() if name not in ("n", "seed", "data")},
    }
    write_text(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    runs = [config.seeded(config.seed + i) for i in range(seeds) for config in configs]
    with _Bar(len(runs), quiet) as bar:
        for number, config in enumerate(runs):
            said, place = bar.of(number, config), folder / config.name
            if tensorboard is not None:
                said = logged(said, place, tensorboard / config.name)
            train(config, data, measure, place, device=on, said=said)
            write_gan_report(folder)
    return folder


class _Bar:
    """A bar at a terminal; in a log a line for every training that has come to its end."""

    def __init__(self, runs: int, quiet: bool):
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        self._console, self._runs, self._quiet = console, runs, quiet

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._progress.disable:  # older versions of rich print an empty line all the same
            self._progress.stop()

    def of(self, number: int, config: GanConfig) -> Callable[[int, Point | None], None]:
        title = f"{config.name} ({number + 1} of {self._runs})"
        task = self._progress.add_task(title, total=config.iterations)

        def said(iteration: int, point: Point | None) -> None:
            self._progress.update(task, completed=iteration)
            if point is not None and iteration == config.iterations and not self._quiet:
                text = f"{title}: FD {point.distance:.3f}, IS {point.score:.3f}"
                self._console.print(text, markup=False, highlight=False)

        return said
