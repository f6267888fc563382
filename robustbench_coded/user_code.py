"""What user code may do to the process that it runs in: change its own working folder, and not end it."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class UserCode:
    """While it is entered, user code runs: in the folder it last went to, and ``os._exit`` raises SystemExit.

    Code that changes the folder, as scripts do to find their files, would otherwise move every relative path
    of the evaluation, that of the run folder among them. It finds itself where it went the next time.
    ``os._exit`` would end the evaluation without a word, and what was computed since the last commit with it.
    """

    def __init__(self) -> None:
        self._own: str | None = None  # None: it has never gone anywhere
        self._before: list[tuple[str | None, Callable[[int], object]]] = []

    def __enter__(self) -> None:
        before = _here()
        self._before.append((before, os._exit))
        os._exit = _raising(os._exit)  # type: ignore[assignment]
        if self._own is not None and self._own != before:
            with suppress(OSError):
                os.chdir(self._own)

    def __exit__(self, *error: object) -> None:
        before, ends = self._before.pop()
        os._exit = ends  # type: ignore[assignment]
        now = _here()
        if before is None or now == before:
            return
        self._own = now
        os.chdir(before)


def _raising(end: Callable[[int], object]) -> Callable[[int], object]:
    """``end`` for other threads, such as the one that waits for Ctrl-C, and for child processes alone."""
    process, thread = os.getpid(), threading.get_ident()

    def raises(status: int) -> object:
        if (os.getpid(), threading.get_ident()) != (process, thread):
            return end(status)
        raise SystemExit(f"os._exit({status})")

    return raises


def _here() -> str | None:
    """The folder of this process; None where it was deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return None
