"""Where shifted images come from: corrupted here and cached, or published as files."""

import hashlib
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import scipy

from robustbench_coded.data.dataset import stratified_rows
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.paper.shift.corruptions import VERSION, corrupt
from robustbench_coded.paper.shift.sets import SEVERITIES, ShiftSet, StoredArray
from robustbench_coded.runs.atomic import write_bytes

# Corrupted sets of our own: made once, cached for the user under a hash of all that decides them.
#
# XDG_CACHE_HOME/csrobust/shift/HASH/clean.npy, fog-3.npy ...


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
    """The .npy file of each corrupted set, made where it is missing.

    Args:
        images: uint8 [n, H, W, C]. numbers: [n], their places in their data set; with ``seed`` they name the
            random numbers of each image.
        wanted: (corruption, severity).
        cache: folder of all such sets. workers: processes that make them.
        listener: receives what is made, and set by set how many are.

    Raises:
        InputError: the cache can't be written.
    """
    listener = listener or Listener()
    folder = cache / "shift" / _key(images, numbers, seed)
    files = {pair: folder / f"{pair[0]}-{pair[1]}.npy" for pair in wanted}
    clean = folder / CLEAN_FILE
    try:
        if not clean.exists():
            _store(clean, images)
        missing = [pair for pair, path in files.items() if not path.exists()]
        if missing:
            listener.note(f"making {len(missing)} corrupted sets of {len(images)} images in {folder}")
            listener.preparing(f"{MAKING}: 0 of {len(missing)}")
        # Processes that never had torch: they start in milliseconds and inherit no threads.
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            made = [pool.submit(_make, clean, files[pair], numbers, *pair, seed) for pair in missing]
            for number, future in enumerate(as_completed(made), 1):
                future.result()
                listener.preparing(f"{MAKING}: {number} of {len(missing)}")
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
    """Whole or not at all: a file that is there is one that was finished."""
    file = BytesIO()
    np.save(file, np.ascontiguousarray(images), allow_pickle=False)
    write_bytes(path, file.getvalue())


CIFAR10C_IMAGES = 10_000
WHERE = {
    "cifar10c": "CIFAR-10-C of Hendrycks and Dietterich (Zenodo 2535967), unpacked: fog.npy ... labels.npy",
    "cifar10.1": "cifar10.1_v4_data.npy, cifar10.1_v4_labels.npy, or v6, of the CIFAR-10.1 repository",
    "cifar10.2": "cifar102_test.npz (images, labels) of the CIFAR-10.2 repository",
}


def published_sets(
    kind: str, folder: Path, corruptions: tuple[str, ...], severities: tuple[int, ...], *, limit: int | None,
    first: bool, seed: int,
) -> list[ShiftSet]:  # fmt: skip
    """The sets of ``KIND:DIR``.

    Args:
        limit: images of each set; None for all. first: the first ones, not random ones of every class. Of
            CIFAR-10-C the same images are taken of every corruption.

    Raises:
        InputError: files are missing or not what they should be; the message says which to get.
    """
    if not folder.is_dir():
        raise InputError(f"{kind}:{folder}: no such folder; it should hold {WHERE[kind]}")
    if kind == "cifar10c":
        sets = _cifar10c(folder, corruptions, severities)
    elif kind == "cifar10.1":
        sets = _cifar101(folder)
    else:
        sets = _cifar102(folder)
    if not sets:
        raise InputError(f"{kind}:{folder}: nothing to evaluate there; it should hold {WHERE[kind]}")
    return [_part(shift, limit, first, seed) for shift in sets]


def _part(s: ShiftSet, limit: int | None, first: bool, seed: int) -> ShiftSet:
    if limit is None or limit >= len(s):
        return s
    chosen = np.arange(limit) if first else stratified_rows(s.labels, limit, stream(seed, -1, "examples"))
    return ShiftSet(s.collection, s.name, s.severity, s.images, s.rows[chosen], s.labels[chosen])


def _cifar10c(folder: Path, corruptions: tuple[str, ...], severities: tuple[int, ...]) -> list[ShiftSet]:
    present = [name for name in corruptions if (folder / f"{name}.npy").is_file()]
    if not present:
        return []
    path, count = folder / "labels.npy", CIFAR10C_IMAGES * len(SEVERITIES)
    labels = _checked_labels(path, _loaded(path), count)[:CIFAR10C_IMAGES]
    sets = []
    for name in present:
        path = folder / f"{name}.npy"
        _checked_images(path, _loaded(path), count)
        for severity in severities:
            start = (severity - 1) * CIFAR10C_IMAGES
            images = StoredArray(path, start, start + CIFAR10C_IMAGES)
            rows = np.arange(CIFAR10C_IMAGES)
            sets.append(ShiftSet("CIFAR-10-C (published)", name, severity, images, rows, labels))
    return sets


def _cifar101(folder: Path) -> list[ShiftSet]:
    sets = []
    for version in ("v4", "v6"):
        data = folder / f"cifar10.1_{version}_data.npy"
        if data.is_file():
            rows = np.arange(len(_checked_images(data, _loaded(data), None)))
            path = folder / f"cifar10.1_{version}_labels.npy"
            labels = _checked_labels(path, _loaded(path), len(rows))
            sets.append(ShiftSet("CIFAR-10.1", version, 0, StoredArray(data), rows, labels))
    return sets


def _cifar102(folder: Path) -> list[ShiftSet]:
    path = folder / "cifar102_test.npz"
    if not path.is_file():
        return []
    try:
        with _loaded(path) as file:
            images, labels = _checked_images(path, file["images"], None), file["labels"]
    except InputError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} can't be read ({error}); expected {WHERE['cifar10.2']}") from error
    rows = np.arange(len(images))
    return [ShiftSet("CIFAR-10.2", "test", 0, images, rows, _checked_labels(path, labels, len(rows)))]


def _loaded(path: Path) -> Any:
    """What numpy.save or numpy.savez wrote, not read yet."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read ({error}); download it again") from error


def _checked_images(path: Path, images: np.ndarray, count: int | None) -> np.ndarray:
    expected = f"uint8 [{'n' if count is None else count}, 32, 32, 3]"
    fits = images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3)
    if not fits or len(images) == 0 or count not in (None, len(images)):
        raise InputError(f"{path}: expected {expected}, got {images.dtype} {list(images.shape)}")
    return images


def _checked_labels(path: Path, labels: np.ndarray, count: int) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.shape != (count,) or labels.min() < 0 or labels.max() > 9:
        raise InputError(
            f"{path}: expected {count} labels from 0 to 9, got {labels.dtype} {list(labels.shape)}"
        )
    return labels.astype(np.int64)
