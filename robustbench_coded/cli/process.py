"""The process of ``csrobust``: exit codes, signals, imports, threads, and where user defences print.

Ctrl-C and SIGTERM are answered within seconds even while native code keeps Python waiting.

GNU's OpenMP, which torch uses on Linux, lets a thread that is early spin for milliseconds. Beside another
busy program the thread that it waits for may not even have a core, and a run takes many times as long.
`spin_briefly` makes it give up the core.
"""

import gc
import io
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from typing import NoReturn

DONE, FAILED, WRONG_INPUT, FAILED_VERDICT, INTERRUPTED = 0, 1, 2, 3, 130


GRACE_SECONDS = 4.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable(farewell: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Within it SIGINT and SIGTERM raise KeyboardInterrupt in the main thread, which calls what this gives as
    soon as it is out of what it was computing.

    Python raises it between two of its own instructions. A backward pass over a large batch is one
    instruction and can take minutes; code that catches everything may even lose it. Where the main thread has
    not been heard of after GRACE_SECONDS, another one calls ``farewell`` and ends the process, exit code 130.

    In threads other than the main one, which get no signals, it does nothing.
    """
    heard = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield heard.set
        return

    def watch() -> None:
        while number := ours.recv(1):
            if number[0] in _SIGNALS and not heard.wait(GRACE_SECONDS):
                try:
                    farewell()
                finally:
                    os._exit(INTERRUPTED)

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    # What was started in the background with a signal ignored goes on ignoring it.
    minded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in minded}
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield heard.set
    finally:
        heard.set()
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        theirs.close()  # ends the watching thread


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def foreign_output() -> AbstractContextManager[object]:
    """Within it, what a network, defence or attack of the user's prints goes to standard error."""
    return redirect_stdout(sys.stderr)


@contextmanager
def importing() -> Iterator[None]:
    """Imports torch and pandas in three quarters of the time: of their half a million objects, all stay."""
    if "torch" in sys.modules or not gc.isenabled():  # there is little left to import
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # what is there stays, and need not be looked through later, either
        gc.enable()


def print_in_any_encoding() -> None:
    """Standard output in ASCII or a code page of Windows gets a question mark for a letter that it lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


SPINS = "10000"  # some microseconds: no slower alone on a machine, two to four times faster beside others
_SET_BY_THE_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def spin_briefly() -> None:
    """For this process and those it starts, unless the environment says otherwise.

    It has no effect once torch is imported.
    """
    if not any(name in os.environ for name in _SET_BY_THE_USER):
        os.environ["GOMP_SPINCOUNT"] = SPINS
