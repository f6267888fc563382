"""A pool of Ray actors, on this machine or on a cluster."""

import copy
import itertools
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.exceptions
import torch

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.image_folders import ImageFiles
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.engine.run import Died, EngineError, Event, Finished, Ready
from robustbench_coded.evaluation.engine.worker import attempt, one_line
from robustbench_coded.evaluation.execution.run_unit import UnitFailure, UnitResult
from robustbench_coded.evaluation.execution.worker_context import Setup, WorkerContext
from robustbench_coded.evaluation.planning.cases import Unit
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.threads import flush_subnormals

ANSWER_SECONDS = 20.0


class RayActors:
    """Actors with one worker's threads and, where the run is on CUDA, one GPU each.

    Data and models go through Ray's object store, once per machine, so workers need no files of this machine.
    They need the same packages and the modules of user-defined ``--arch`` and ``--defence``.

    Args:
        context: data and models, already loaded.
        workers: how many to make room for if Ray is started here.

    The cluster is the one that this process is connected to, else that of Ray's own variable ``RAY_ADDRESS``,
    ``auto`` or HOST:PORT. Without either Ray starts here with as many CPUs as the workers have threads.

    Attributes:
        joined: True if a cluster was named.

    Raises:
        InputError: no cluster at that address, or one where no worker fits.
    """

    def __init__(self, context: WorkerContext, workers: int):
        address = os.environ.get("RAY_ADDRESS")
        self.joined = bool(address)
        self._setup = context.setup
        self._gpus = 0 if context.device.type == "cpu" else 1
        self._connected_before = ray.is_initialized()
        if not self._connected_before:
            _connect(address, workers * context.setup.threads)
        here = not self.joined and not self._connected_before
        self._actor: Any = ray.remote(
            num_cpus=context.setup.threads, num_gpus=self._gpus, max_restarts=0, max_task_retries=0
        )(_Actor)
        self._numbers = itertools.count()
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, int] = {}  # which worker owes an answer
        try:
            self._require_room()
            self._worker_setup = ray.put(
                replace(self._setup, device=context.device.type if self._gpus else self._setup.device)
            )
            self._shared = ray.put((sent(context.data, here=here), _on_cpu(context)))
        except BaseException:
            self.close()
            raise

    @property
    def room(self) -> int:
        """How many workers fit on the cluster."""
        total = ray.cluster_resources()
        cpus = int(total.get("CPU", 0) // self._setup.threads)
        return min(cpus, int(total.get("GPU", 0))) if self._gpus else cpus

    def start(self) -> int:
        number = next(self._numbers)
        actor = self._actor.remote(self._worker_setup, self._shared, str(Path.cwd()))
        self._actors[number] = actor
        self._pending[actor.ready.remote()] = number
        return number

    def assign(self, worker: int, unit: Unit) -> None:
        self._pending[self._actors[worker].attempt.remote(unit)] = worker

    def wait(self, seconds: float | None) -> list[Event]:
        done, rest = ray.wait(list(self._pending), num_returns=1, timeout=seconds)
        if done and rest:
            more, _ = ray.wait(rest, num_returns=len(rest), timeout=0)
            done += more
        return [self._event(answer) for answer in done]

    def stop(self, worker: int) -> None:
        ray.kill(self._actors.pop(worker))
        self._pending = {answer: number for answer, number in self._pending.items() if number != worker}

    def close(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        self._pending.clear()
        if not self._connected_before:
            ray.shutdown()

    def _event(self, answer: Any) -> Event:
        number = self._pending.pop(answer)
        try:
            message = ray.get(answer)
        except ray.exceptions.RayError as error:
            self.stop(number)
            return Died(number, one_line(error))
        return Ready(number) if message is None else Finished(number, message)

    def _require_room(self) -> None:
        if self.room < 1:
            total = ray.cluster_resources()
            needed = f"{self._setup.threads} CPUs" + (" and a GPU" if self._gpus else "")
            there = f"{total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs"
            raise InputError(
                f"--engine ray: a worker needs {needed}, the cluster has {there}; set --threads or --device"
            )


class _Actor:
    """One worker: reads no files, and keeps defences between units."""

    def __init__(self, setup: Setup, shared: tuple[Dataset, dict[str, PixelModel]], folder: str):
        if Path(folder).is_dir():  # user-defined modules are imported from there
            os.chdir(folder)
        torch.set_num_threads(setup.threads)
        flush_subnormals(True)
        self._bench = WorkerContext(setup)
        self._bench.preload(*shared)

    def ready(self) -> None:
        """Returns once the actor has started."""

    def attempt(self, unit: Unit) -> UnitResult | UnitFailure:
        return attempt(self._bench, unit)


def _connect(address: str | None, cpus: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        options |= {"num_cpus": cpus, "include_dashboard": False}
    with _sigterm_handler_restored():
        try:
            _answers(address)
            ray.init(address=address or "local", **options)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            if not address:
                raise EngineError(f"Ray does not start here: {one_line(error)}") from error
            raise InputError(
                f"RAY_ADDRESS {address}: no Ray cluster answers there ({one_line(error)}); start one with "
                "`ray start --head`, or unset the variable"
            ) from error


def _answers(address: str | None) -> None:
    """Raises OSError or ValueError where nothing listens at HOST:PORT, for which Ray itself waits minutes."""
    if address and address not in ("auto", "local"):
        host, _, port = address.rpartition("://")[2].rpartition(":")
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()


@contextmanager
def _sigterm_handler_restored() -> Iterator[None]:
    """Restores our SIGTERM handler, which writes the reports: Ray installs its own when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def sent(data: Dataset, *, here: bool) -> Dataset:
    """The data as actors get them: as an array, unless they are files and all actors are on this machine."""
    if here and isinstance(getattr(data.images, "images", data.images), ImageFiles):  # some rows, or all
        return data
    return replace(data, images=np.ascontiguousarray(data.images[np.arange(len(data))]))


def _on_cpu(context: WorkerContext) -> dict[str, PixelModel]:
    models = {c.name: context.model(c.name) for c in context.setup.checkpoints}
    return (
        models if context.device.type == "cpu" else {n: copy.deepcopy(m).to("cpu") for n, m in models.items()}
    )
