"""Trains the generators of a study one by one, in this process or in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.engine.worker import Run, Tell, serve
from robustbench_coded.errors import InputError
from robustbench_coded.generation.config import GanConfig
from robustbench_coded.generation.distances import Moments, frechet_distance, moments
from robustbench_coded.generation.features import Network, answers, network_named
from robustbench_coded.generation.tensorboard import Said, logged
from robustbench_coded.generation.train import train


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
