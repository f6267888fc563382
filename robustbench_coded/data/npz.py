"""Images from a NumPy archive: ``x`` and ``y``, checked before anything large is read."""

import os
import zipfile
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.lib import format as npy

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError

EXPECTED = "x uint8 [n, H, W, C] or [n, H, W] (or floats in [0, 1]) and y integers [n]"


def load_npz(path: Path, *, name: str | None = None, class_names: tuple[str, ...] = ()) -> Dataset:
    """Reads ``x`` uint8 ``[n, H, W, C]`` or ``[n, H, W]`` (or floats in [0, 1]) and ``y`` integers ``[n]``.

    Nothing in the file is unpickled. The number of classes is that of ``class_names``, else the largest label
    plus one.

    Raises:
        InputError: missing or damaged file, other arrays, NaN, pixels or labels out of range, or arrays that
            are larger than the machine's memory.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an .npz file with {EXPECTED}")
    x, y = _read(path)
    images, scale = _images(path, x)
    labels = _labels(path, y, len(images), len(class_names))
    return Dataset(
        name=name or f"npz:{path}",
        images=images,
        scale=scale,
        labels=labels,
        classes=len(class_names) or max(2, int(labels.max()) + 1),
        class_names=class_names,
        source=f"{path.name} ({len(images)} images)",
    )


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            missing = [key for key in ("x", "y") if f"{key}.npy" not in members]
            if missing:
                held = ", ".join(sorted(n.removesuffix(".npy") for n in members)[:10]) or "nothing"
                raise InputError(
                    f"{path}: no array named {' or '.join(missing)} (it holds {held}); expected {EXPECTED}"
                )
            _check_size(path, archive, [members["x.npy"], members["y.npy"]])
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["x"], arrays["y"]
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError, NotImplementedError) as error:
        raise InputError(f"{path}: not a readable .npz file ({error}); expected {EXPECTED}") from error
    except zipfile.zlib.error as error:  # type: ignore[attr-defined]
        raise InputError(f"{path}: damaged .npz file ({error}); make it again") from error


def _check_size(path: Path, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """Compares what the headers promise with what is stored and with the memory there is."""
    total = 0
    for info in members:
        with archive.open(info) as stream:
            version = npy.read_magic(stream)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read_header(stream)
            if dtype.hasobject:
                raise InputError(f"{path}: {info.filename} holds Python objects; expected {EXPECTED}")
            size = int(np.prod([int(side) for side in shape], dtype=object)) * dtype.itemsize
            if stream.tell() + size != info.file_size:
                raise InputError(
                    f"{path}: {info.filename} has another size than its header says; make the file again"
                )
            total += size
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total > memory:
        raise InputError(f"{path}: {total / 2**30:.0f} GiB of arrays do not fit into memory; split the file")


def _images(path: Path, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Pixels as [n, H, W, C] and the value that means 1.0."""

    def refuse(found: str) -> NoReturn:
        raise InputError(f"{path}: expected x uint8 [n, H, W, C], C 1 or 3, or floats in [0, 1], got {found}")

    if x.ndim == 3:
        x = x[..., None]
    if x.ndim == 4 and x.shape[3] not in (1, 3) and x.shape[1] in (1, 3):
        refuse(f"{list(x.shape)}, which looks like [n, C, H, W]: x.transpose(0, 2, 3, 1)")
    if x.ndim != 4 or x.shape[3] not in (1, 3) or 0 in x.shape:
        refuse(f"{x.dtype} {list(x.shape)}")
    if x.dtype == np.uint8:
        return x, 255.0
    if x.dtype.kind != "f":
        refuse(f"dtype {x.dtype}")
    if not np.isfinite(x).all():
        refuse("NaN or infinite values")
    lowest, highest = float(x.min()), float(x.max())
    if lowest < 0 or highest > 1:
        refuse(f"floats in [{lowest:g}, {highest:g}]")
    return x.astype(np.float32, copy=False), 1.0


def _labels(path: Path, y: np.ndarray, count: int, classes: int) -> np.ndarray:
    if y.dtype.kind not in "iu" or y.shape != (count,):
        raise InputError(
            f"{path}: expected y integers [{count}], one for each image, got {y.dtype} {list(y.shape)}"
        )
    top = classes - 1 if classes else 2**31
    bad = np.flatnonzero((y < 0) | (y > top))
    if len(bad):
        allowed = f"0 to {top}" if classes else "0, 1, 2, ..."
        raise InputError(f"{path}: label {y[bad[0]]} of image {bad[0]} is out of range; labels are {allowed}")
    return y.astype(np.int64)
