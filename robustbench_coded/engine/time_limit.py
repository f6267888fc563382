"""Interrupting code of this process that takes too long."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REPEAT_SECONDS = 1.0


class TookTooLong(BaseException):
    """Not an Exception, so that ``except Exception`` in the code that hangs does not swallow it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TookTooLong inside the block once it has taken ``seconds``, and each second after that.

    It reaches Python code of the main thread. Elsewhere, and while native code keeps the interpreter waiting,
    nothing happens: only another process can end that.
    """
    if math.isinf(seconds) or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # reached even if the timer rang while it was being stopped
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _interrupt(signum: int, frame: object) -> None:
    raise TookTooLong
