"""The working folder of user code: it may change it for itself only."""

import os
from contextlib import suppress
from pathlib import Path


class WorkingFolder:
    """While it is entered, the folder that the code went to; afterwards the one that was current before.

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
