"""Plain and coded generators over seeds, trained into one folder, and the report on them.

They are trained in this process or several at a time in workers, with TensorBoard's logs.
"""

import json
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.engine.worker import Run, Tell, serve
from robustbench_coded.evaluation.engine.worker_pool import (
    Died,
    EngineError,
    Finished,
    ProcessPool,
    Ready,
    Told,
)
from robustbench_coded.evaluation.options.device import threads_each
from robustbench_coded.paper.generation.config import GanConfig, GeneratorPoint
from robustbench_coded.paper.generation.features import (
    Moments,
    Network,
    answers,
    frechet_distance,
    moments,
    network_named,
)
from robustbench_coded.paper.generation.report import FACTS, write_gan_report
from robustbench_coded.paper.generation.train import SAMPLES, train
from robustbench_coded.paper.training.listener import summary_writer
from robustbench_coded.runs.atomic import remove_unfinished, write_text

Said = Callable[[int, GeneratorPoint | None], None]
FIGURES = ("distance", "score", "gap")  # of a Point


def logged(said: Said, folder: Path, logs: Path) -> Said:
    """``said``, which also writes every measurement, and the images shown with it, into ``logs``.

    Args:
        folder: of the training; the images are there already when a measurement is told.

    Raises:
        InputError: TensorBoard is not installed.
    """
    writer = summary_writer(logs)

    def both(iteration: int, point: GeneratorPoint | None) -> None:
        said(iteration, point)
        if point is not None:
            for name in FIGURES:
                writer.add_scalar(name, getattr(point, name), iteration)
            writer.add_images("samples", np.load(folder / SAMPLES, allow_pickle=False), iteration)
            writer.flush()

    return both


@dataclass(frozen=True)
class Orders:
    """What all trainings of a study share, small enough to send to a worker.

    Attributes:
        data, data_dir: of the images.
        features: as text, of the network that measures.
        real: of its features of the training images.
        folder: of the study, with a folder of each training in it.
        tensorboard: folder for TensorBoard's logs.
        device: torch device as text.
        threads: CPU threads of a worker.
    """

    data: str
    data_dir: Path | None
    features: str
    real: Moments
    folder: Path
    tensorboard: Path | None
    device: str
    threads: int


@dataclass(frozen=True)
class RefusedStudy:
    """Why a training can't be done, in one line for the user."""

    reason: str


def trainer(orders: Orders, data: Dataset, network: Network) -> Callable[[GanConfig, Said], None]:
    """What trains a generator or goes on with it, into its folder, and tells every iteration.

    It raises InputError where the folder holds another training, or TensorBoard is not installed.

    Args:
        data: training images. network: measures generated ones.
    """

    def measured(images: Tensor) -> tuple[float, float]:
        found, other = answers(network, images)
        return frechet_distance(moments(found), orders.real), network.score(other)

    def trained(config: GanConfig, said: Said) -> None:
        place = orders.folder / config.name
        if orders.tensorboard is not None:
            said = logged(said, place, orders.tensorboard / config.name)
        train(config, data, measured, place, device=torch.device(orders.device), said=said)

    return trained


def work(pipe: Connection, orders: Orders, folder: str) -> None:
    """The main loop of a worker: it gets configurations, and answers each with its name or with Refused."""

    def prepared() -> Run:
        data = load_data(orders.data, data_dir=orders.data_dir, split="train")
        held_out = load_data(orders.data, data_dir=orders.data_dir)
        network = network_named(orders.features, held_out, torch.device(orders.device))
        trained = trainer(orders, data, network)

        def run(config: GanConfig, tell: Tell) -> RefusedStudy | str:
            try:
                trained(config, lambda iteration, point: tell((iteration, point)))
            except InputError as error:
                return RefusedStudy(str(error))
            return config.name

        return run

    serve(pipe, folder, orders.threads, prepared)


def side_by_side(
    runs: Sequence[GanConfig], orders: Orders, workers: int, said: Callable[[GanConfig], Said]
) -> Generator[GanConfig, None, None]:
    """Trains every configuration and yields it when it is done; they start in the order given.

    A training's course is the same as in one process. However this ends, the workers end with it, and what
    they have measured is kept.

    Args:
        said: makes what is told every iteration of one training.

    Raises:
        InputError: as what `trainer` gives.
        EngineError: a worker can't be started, or dies.
    """
    pool = ProcessPool(orders, [orders.device], work)
    waiting = deque(runs)
    busy: dict[int, tuple[GanConfig, Said]] = {}

    def assign(worker: int) -> None:
        if waiting:
            config = waiting.popleft()
            busy[worker] = config, said(config)
            pool.assign(worker, config)

    try:
        starting = {pool.start() for _ in range(min(workers, len(runs)))}
        while starting or busy:
            for event in pool.wait(None):
                worker = event.worker
                match event:
                    case Ready():
                        starting.remove(worker)
                        assign(worker)
                    case Told(content=content):
                        busy[worker][1](*content)
                    case Finished(outcome=RefusedStudy(reason)):
                        raise InputError(reason)
                    case Finished():
                        config, _ = busy.pop(worker)
                        assign(worker)
                        yield config
                    case Died(reason=reason):
                        what = busy[worker][0].name if worker in busy else "before its first training"
                        raise EngineError(f"a worker ended ({what}): {reason}")
    finally:
        pool.close()


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
            trained = _in_turn(runs, trainer(orders, data, network), bar.of)
        else:
            trained = side_by_side(runs, orders, workers, bar.of)
        with closing(trained):
            for _ in trained:
                write_gan_report(folder)
    return folder


def _in_turn(
    runs: Sequence[GanConfig], trained: Callable[[GanConfig, Said], None], said: Callable[[GanConfig], Said]
) -> Generator[GanConfig, None, None]:
    for config in runs:
        trained(config, said(config))
        yield config


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

        def said(iteration: int, point: GeneratorPoint | None) -> None:
            self._progress.update(task, completed=iteration)
            if point is not None and iteration == config.iterations and not self._quiet:
                text = f"{title}: FD {point.distance:.3f}, IS {point.score:.3f}"
                self._console.print(text, markup=False, highlight=False)

        return said
