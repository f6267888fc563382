"""The process that worker processes of this machine are forked from."""

import multiprocessing
import signal
import threading
from multiprocessing import forkserver

WORK = "robustbench_coded.engine.worker"


def start_server() -> None:
    """Starts the server if it does not run, and returns at once; it imports in the background.

    An interrupt from the terminal reaches the server, too. While it imports, nothing catches it there, so the
    server is born deaf to interrupts, as it is once it has imported.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([WORK])
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
