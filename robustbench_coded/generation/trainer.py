"""Trains the generators of a study, in this process or several at a time in workers, with TensorBoard's
logs.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.engine.worker import Run, Tell, serve
from robustbench_coded.engine.worker_pool import Died, EngineError, Finished, ProcessPool, Ready, Told
from robustbench_coded.errors import InputError
from robustbench_coded.generation.config import GanConfig, Point
from robustbench_coded.generation.features import (
    Moments,
    Network,
    answers,
    frechet_distance,
    moments,
    network_named,
)
from robustbench_coded.generation.train import SAMPLES, train
from robustbench_coded.training.listener import summary_writer

Said = Callable[[int, Point | None], None]
FIGURES = ("distance", "score", "gap")  # of a Point


def logged(said: Said, folder: Path, logs: Path) -> Said:
    """``said``, which also writes every measurement, and the images shown with it, into ``logs``.

    Args:
        folder: of the training; the images are there already when a measurement is told.

    Raises:
        InputError: TensorBoard is not installed.
    """
    writer = summary_writer(logs)

    def both(iteration: int, point: Point | None) -> None:
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
class Refused:
    """Why a training can't be done, in one line for the user."""

    reason: str


class Trainer:
    """Trains one generator after the other.

    Args:
        data: training images. network: measures generated ones.
    """

    def __init__(self, orders: Orders, data: Dataset, network: Network):
        self._orders, self._data, self._network = orders, data, network

    def train(self, config: GanConfig, said: Said) -> None:
        """Trains or goes on, into the training's folder; ``said`` is told every iteration.

        Raises:
            InputError: the folder holds another training, or TensorBoard is not installed.
        """
        orders = self._orders
        place = orders.folder / config.name
        if orders.tensorboard is not None:
            said = logged(said, place, orders.tensorboard / config.name)
        train(config, self._data, self._measured, place, device=torch.device(orders.device), said=said)

    def _measured(self, images: Tensor) -> tuple[float, float]:
        found, other = answers(self._network, images)
        return frechet_distance(moments(found), self._orders.real), self._network.score(other)


def work(pipe: Connection, orders: Orders, folder: str) -> None:
    """The main loop of a worker: it gets configurations, and answers each with its name or with Refused."""

    def prepared() -> Run:
        data = load_data(orders.data, data_dir=orders.data_dir, split="train")
        held_out = load_data(orders.data, data_dir=orders.data_dir)
        network = network_named(orders.features, held_out, torch.device(orders.device))
        trainer = Trainer(orders, data, network)

        def run(config: GanConfig, tell: Tell) -> Refused | str:
            try:
                trainer.train(config, lambda iteration, point: tell((iteration, point)))
            except InputError as error:
                return Refused(str(error))
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
        InputError: as `Trainer.train`.
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
                    case Finished(outcome=Refused(reason)):
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
