"""The main loop of a worker process: it runs units from a pipe until the pipe closes."""

import os
import pickle
import signal
import threading
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection

import torch

from robustbench_coded.engine.attempt import attempt, one_line
from robustbench_coded.evaluation.execution.worker_context import Setup, WorkerContext

READY = "ready"


@dataclass(frozen=True)
class NotReady:
    """Why a worker can't take any unit, in one line."""

    reason: str


def work(pipe: Connection, setup: Setup, folder: str) -> None:
    """Loads data and models, sends READY or NotReady, then an outcome for each unit received.

    Messages are plain pickles: torch's way of sending tensors passes files that vanish with a killed worker.

    Args:
        folder: the parent's current folder; paths in the setup may be relative to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    torch.set_num_threads(setup.threads)
    context = WorkerContext(setup)
    try:
        try:
            context.load()
        except Exception as error:
            pipe.send_bytes(pickle.dumps(NotReady(one_line(error))))
            return
        pipe.send_bytes(pickle.dumps(READY))
        while True:
            unit = pickle.loads(pipe.recv_bytes())
            pipe.send_bytes(pickle.dumps(attempt(context, unit)))
    except (EOFError, BrokenPipeError):
        return  # the parent has closed the pipe


def _end_with_parent() -> None:
    """Exits when the parent dies: a killed parent may close the pipe too late."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
