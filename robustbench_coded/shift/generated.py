"""Corrupted sets of our own: made once, kept in the user's cache under a hash of all that decides them.

XDG_CACHE_HOME/csrobust/shift/HASH/clean.npy, fog-3.npy, fog-3.sha256 ...
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
import scipy

from robustbench_coded.errors import InputError
from robustbench_coded.runs.atomic import write_bytes, write_text
from robustbench_coded.session.listener import Listener
from robustbench_coded.shift.corruptions.corrupt import VERSION, corrupt

CLEAN_FILE = "clean.npy"
MAKING = "corrupted sets"


def cached_sets(
    images: np.ndarray,
    numbers: np.ndarray,
    wanted: Sequence[tuple[str, int]],
    *,
    seed: int,
    cache: Path,
    workers: int = 1,
    listener: Listener | None = None,
) -> dict[tuple[str, int], Path]:
    """The .npy file of each corrupted set, made where it is missing or damaged.

    Args:
        images: uint8 [n, H, W, C]. numbers: [n], their places in their data set; with ``seed`` they name the
            random numbers of each image.
        wanted: (corruption, severity).
        cache: folder of all such sets. workers: processes that make them.
        listener: is told what is made, and set by set how many are.

    Raises:
        InputError: the cache can't be written.
    """
    listener = listener or Listener()
    folder = cache / "shift" / _key(images, numbers, seed)
    files = {pair: folder / f"{pair[0]}-{pair[1]}.npy" for pair in wanted}
    clean = folder / CLEAN_FILE
    try:
        if not _intact(clean):
            _store(clean, images)
        missing = [pair for pair, path in files.items() if not _intact(path)]
        if missing:
            listener.note(f"making {len(missing)} corrupted sets of {len(images)} images in {folder}")
            listener.making(MAKING, 0, len(missing))
        jobs = [(clean, files[pair], numbers, *pair, seed) for pair in missing]
        if workers > 1 and len(jobs) > 1:
            # Processes that never had torch: they start in milliseconds and inherit no threads.
            context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
            with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
                made = as_completed([pool.submit(_make, *job) for job in jobs])
                for number, one in enumerate(made, 1):
                    one.result()
                    listener.making(MAKING, number, len(jobs))
        else:
            for number, job in enumerate(jobs, 1):
                _make(*job)
                listener.making(MAKING, number, len(jobs))
    except OSError as error:
        raise InputError(
            f"{folder} can't be written ({error.strerror or error}); set XDG_CACHE_HOME to a folder with room"
        ) from error
    return {("clean", 0): clean, **files}


def _key(images: np.ndarray, numbers: np.ndarray, seed: int) -> str:
    """20 hexadecimal digits; another version of a library may draw or round otherwise."""
    digest = hashlib.blake2b(digest_size=10)
    parts = (VERSION, seed, images.shape, np.__version__, scipy.__version__, PIL.__version__)
    digest.update(repr(parts).encode())
    digest.update(np.ascontiguousarray(images).tobytes())
    digest.update(np.asarray(numbers, dtype="<i8").tobytes())
    return digest.hexdigest()


def _make(clean: Path, target: Path, numbers: np.ndarray, name: str, severity: int, seed: int) -> None:
    images = np.load(clean, mmap_mode="r", allow_pickle=False)
    _store(target, corrupt(np.asarray(images), numbers, name, severity, seed))


def _store(path: Path, images: np.ndarray) -> None:
    file = BytesIO()
    np.save(file, np.ascontiguousarray(images), allow_pickle=False)
    content = file.getvalue()
    write_text(path.with_suffix(".sha256"), hashlib.sha256(content).hexdigest() + "\n")
    write_bytes(path, content)


def _intact(path: Path) -> bool:
    """Whether a file is there and is what was written."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        return path.with_suffix(".sha256").read_text().strip() == found
    except (OSError, UnicodeDecodeError):
        return False
