"""Plain and coded generators over seeds, trained into one folder, and the report on them."""

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.device import threads_each
from robustbench_coded.generation.config import GanConfig, Point
from robustbench_coded.generation.features import Network, answers, frechet_distance, moments, network_named
from robustbench_coded.generation.report import FACTS, write_gan_report
from robustbench_coded.generation.trainer import Orders, Said, Trainer, side_by_side
from robustbench_coded.runs.atomic import remove_unfinished, write_text


def study(
    configs: Sequence[GanConfig],
    features: str,
    folder: Path,
    *,
    seeds: int,
    data_dir: Path | None = None,
    device: str = "cpu",
    workers: int = 1,
    quiet: bool = False,
    tensorboard: Path | None = None,
) -> Path:
    """Trains every configuration with ``seeds`` seeds, measures them by one network, and reports.

    The same call goes on where it stopped. The seeds come first, so that a stopped study has all variants.

    Args:
        configs: variants of one training, with the first seed.
        features: checkpoint whose features and answers images are measured by, or ``inception:FILE``.
        workers: processes, each of which trains one generator at a time; 1 for this one. They change no
            figure but the times, while each has as many threads.
        tensorboard: folder for TensorBoard's logs, a folder of it for each training.

    Raises:
        InputError: data, checkpoint, options or the folder are not usable, or TensorBoard is not installed.
        EngineError: a worker can't be started, or dies; what it had measured is kept.
    """
    first = configs[0]
    data = load_data(first.data, data_dir=data_dir, split="train")
    held_out = load_data(first.data, data_dir=data_dir)
    if min(len(data), len(held_out)) < 2:
        raise InputError(f"--data {first.data}: one image has no covariance; give 2 or more")
    on = torch.device(device)
    network = network_named(features, held_out, on)
    _check_same(folder, network)
    runs = list(dict.fromkeys(config.seeded(config.seed + i) for i in range(seeds) for config in configs))
    with _Bar(runs, quiet) as bar:
        real = moments(answers(network, _images(data), bar.measuring("training images", len(data)))[0])
        beside, test = answers(network, _images(held_out), bar.measuring("test images", len(held_out)))
        facts: dict[str, Any] = {
            "data": first.data,
            "images": len(data),
            "features": network.name,
            "inception": network.inception,
            "published": network.published,
            "test_distance": frechet_distance(moments(beside), real),
            "test_score": network.score(test),
            "seeds": seeds,
            "iterations": first.iterations,
            "config": {
                name: value for name, value in asdict(first).items() if name not in ("n", "seed", "data")
            },
        }
        write_text(folder / FACTS, json.dumps(facts, indent=1) + "\n")
        remove_unfinished(folder)  # of workers that were killed
        threads = threads_each(workers)
        orders = Orders(first.data, data_dir, features, real, folder, tensorboard, device, threads)
        if workers == 1:
            trained = _in_turn(runs, Trainer(orders, data, network), bar.of)
        else:
            trained = side_by_side(runs, orders, workers, bar.of)
        with closing(trained):
            for _ in trained:
                write_gan_report(folder)
    return folder


def _in_turn(
    runs: Sequence[GanConfig], trainer: Trainer, said: Callable[[GanConfig], Said]
) -> Generator[GanConfig, None, None]:
    for config in runs:
        trainer.train(config, said(config))
        yield config


def _images(data: Dataset) -> torch.Tensor:
    return data.batch(range(len(data)))[0]


def _check_same(folder: Path, network: Network) -> None:
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

        def said(iteration: int, point: Point | None) -> None:
            self._progress.update(task, completed=iteration)
            if point is not None and iteration == config.iterations and not self._quiet:
                text = f"{title}: FD {point.distance:.3f}, IS {point.score:.3f}"
                self._console.print(text, markup=False, highlight=False)

        return said
