"""What a worker process does: one unit after the other, as they arrive through a pipe, until it closes."""

import os
import pickle
import signal
import threading
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection

import torch

from robustbench_coded.engine.attempt import attempt, one_line
from robustbench_coded.evaluation.execution.worker_context import Setup, Workbench

READY = "ready"


@dataclass(frozen=True)
class NotReady:
    """Why a worker can't take any unit, in one line."""

    reason: str


def work(pipe: Connection, setup: Setup, folder: str) -> None:
    """Loads data and models, sends READY or NotReady, then an outcome for each unit received.

    Messages are plain pickles: torch's own way of sending tensors hands over files that are gone when the
    worker is killed.

    Args:
        folder: the parent's current one, which paths in the setup may be relative to.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    torch.set_num_threads(setup.threads)
    bench = Workbench(setup)
    try:
        try:
            bench.load()
        except Exception as error:
            pipe.send_bytes(pickle.dumps(NotReady(one_line(error))))
            return
        pipe.send_bytes(pickle.dumps(READY))
        while True:
            unit = pickle.loads(pipe.recv_bytes())
            pipe.send_bytes(pickle.dumps(attempt(bench, unit)))
    except (EOFError, BrokenPipeError):
        return  # the parent needs no more


def _end_with_parent() -> None:
    """A parent that was killed closes no pipe in time: an orphan would compute for nobody."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
