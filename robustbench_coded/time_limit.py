"""Interrupts code of this process that takes too long."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REPEAT_SECONDS = 1.0


class TimeLimitExceeded(BaseException):
    """Not an Exception, so that ``except Exception`` in the interrupted code does not catch it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeLimitExceeded inside the block once it has taken ``seconds``, and each second after that.

    It interrupts Python code of the main thread. It does not interrupt other threads or native code; only
    another process can stop those.
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
    finally:  # reached even if the timer fired while it was being stopped
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _interrupt(signum: int, frame: object) -> None:
    raise TimeLimitExceeded
