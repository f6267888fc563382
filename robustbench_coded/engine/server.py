"""The process that worker processes of this machine are forked from."""

import multiprocessing
from multiprocessing import forkserver

WORK = "robustbench_coded.engine.worker"


def start_server() -> None:
    """Starts the server if it does not run, and returns at once; it imports in the background."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([WORK])
    forkserver.ensure_running()
