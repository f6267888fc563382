"""While user code runs: a time limit, a working folder of its own, and no end of the process."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

REPEAT_SECONDS = 1.0


class TimeLimitExceeded(BaseException):
    """Not an Exception, so that ``except Exception`` in the interrupted code does not catch it."""


class TimeIsUp(BaseException):
    """The time that was given for a run is over; what has not come to its end is dropped."""


_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def until(moment: float) -> Iterator[None]:
    """Within it the run's time is up at this moment of the monotonic clock."""
    before = _deadline.set(moment)
    try:
        yield
    finally:
        _deadline.reset(before)


def deadline() -> float:
    """When the run's time is up, on the monotonic clock; infinite for never."""
    return _deadline.get()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeLimitExceeded in the block once it has taken ``seconds``, TimeIsUp at the `deadline` of the
    run, and again each second after that.

    It interrupts Python code of the main thread. It does not interrupt other threads or native code; only
    another process can stop those.
    """

    def interrupt(signum: int, frame: object) -> None:
        raise TimeIsUp if time.monotonic() >= deadline() else TimeLimitExceeded

    seconds = min(seconds, deadline() - time.monotonic())
    if seconds <= 0:
        raise TimeIsUp
    if math.isinf(seconds) or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # reached even if the timer fired while it was being stopped
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class UserCode:
    """While it is entered, user code runs in the folder it last went to.

    Code that changes the folder, as scripts do to find their files, would otherwise move every relative path
    of the evaluation, that of the run folder among them. It finds itself where it went the next time.
    """

    def __init__(self) -> None:
        self._own: str | None = None  # None: it has never gone anywhere
        self._before: list[str | None] = []

    def __enter__(self) -> None:
        before = _here()
        self._before.append(before)
        if self._own is not None and self._own != before:
            with suppress(OSError):
                os.chdir(self._own)

    def __exit__(self, *error: object) -> None:
        before, now = self._before.pop(), _here()
        if before is None or now == before:
            return
        self._own = now
        os.chdir(before)


def _here() -> str | None:
    """The folder of this process; None where it was deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return None
