"""The main loop of a worker process: it runs jobs from a pipe until the pipe closes."""

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from typing import Any

import torch

from robustbench_coded.engine.attempt import attempt, one_line
from robustbench_coded.evaluation.execution.worker_context import Setup, WorkerContext

READY = "ready"
Tell = Callable[[Any], None]
Run = Callable[[Any, Tell], Any]


@dataclass(frozen=True)
class NotReady:
    """Why a worker can't take any job, in one line."""

    reason: str


@dataclass(frozen=True)
class Interim:
    """What a worker says of its job before it has finished it."""

    content: Any


def work(pipe: Connection, setup: Setup, folder: str) -> None:
    """Loads data and models, then computes an outcome for each unit received."""

    def prepared() -> Run:
        context = WorkerContext(setup)
        context.load()
        return lambda unit, tell: attempt(context, unit)

    serve(pipe, folder, setup.threads, prepared)


def serve(pipe: Connection, folder: str, threads: int, prepared: Callable[[], Run]) -> None:
    """Sends READY or NotReady, then an outcome for each job received.

    Messages are plain pickles: torch's way of sending tensors passes files that vanish with a killed worker.

    Args:
        folder: the parent's current folder; paths in orders may be relative to it.
        threads: CPU threads of this worker.
        prepared: loads what jobs need and returns what runs one. That gets the job and a function that sends
            word of it meanwhile; what it returns is the outcome, and not None.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    sys.stdout = sys.stderr  # what a plug-in prints is not the command's answer
    torch.set_num_threads(threads)

    def send(message: Any) -> None:
        pipe.send_bytes(pickle.dumps(message))

    try:
        try:
            run = prepared()
        except Exception as error:
            send(NotReady(one_line(error)))
            return
        send(READY)
        while True:
            job = pickle.loads(pipe.recv_bytes())
            send(run(job, lambda content: send(Interim(content))))
    except (EOFError, BrokenPipeError):
        return  # the parent has closed the pipe


def _end_with_parent() -> None:
    """Exits when the parent dies: a killed parent may close the pipe too late."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
