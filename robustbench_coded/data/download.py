"""Where named data are looked for, and how they are fetched where they are not there."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from robustbench_coded.errors import InputError

_TIMEOUT = 20.0  # seconds without an answer


def search_path(data_dir: Path | None) -> list[Path]:
    """The folders that are searched, in order; downloads go into the first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "csrobust"
    configured = os.environ.get("CSROBUST_DATA")
    return [*([data_dir] if data_dir else []), *([Path(configured)] if configured else []), cache]


def download(name: str, torchvision_class: str, folder: str, places: list[Path], by_hand: str) -> None:
    """Puts torchvision's copy into the first place, whole or not at all.

    Args:
        name: of the data, for messages.
        torchvision_class: its reader in ``torchvision.datasets``.
        folder: what the reader makes.
        places: where the data were looked for.
        by_hand: what to put into one of them instead, in words.
    Raises:
        InputError: the download failed.
    """
    import torchvision.datasets

    reader = getattr(torchvision.datasets, torchvision_class)
    target = places[0]
    is_new = not target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=target, prefix=f".{name}-") as aside,
            _timeout(_TIMEOUT),
            contextlib.redirect_stderr(io.StringIO()),  # a progress bar that would break the one-line message
            contextlib.redirect_stdout(io.StringIO()),
        ):
            reader(root=aside, download=True)
            shutil.move(Path(aside) / folder, target / folder)
    except (OSError, RuntimeError) as error:
        if is_new:
            with contextlib.suppress(OSError):
                target.rmdir()
        looked = ", ".join(str(place) for place in places)
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name}: not found in {looked}, and the download failed ({reason}); "
            f"put {by_hand} into one of them"
        ) from error


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
