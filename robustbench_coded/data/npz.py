"""Images from a NumPy archive: ``x`` and ``y``, checked before anything large is read."""

import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.in_memory import EXPECTED, labels, pixels, require_memory
from robustbench_coded.errors import InputError


def load_npz(path: Path, *, name: str | None = None, class_names: tuple[str, ...] = ()) -> Dataset:
    """Reads ``x`` and ``y``, in the shapes and types that images in memory may have (`pixels`, `labels`).

    Nothing in the file is unpickled. The number of classes is that of ``class_names``, else the largest label
    plus one.

    Raises:
        InputError: missing or damaged file, other arrays, NaN, pixels or labels out of range, or arrays that
            are larger than the machine's memory.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an .npz file with {EXPECTED}")
    x, y = _read(path)
    images = pixels(x, str(path), channels_last=True)
    numbers = labels(y, len(images), str(path), classes=len(class_names) or None)
    return Dataset(
        name=name or f"npz:{path}",
        images=images,
        scale=255.0 if images.dtype == np.uint8 else 1.0,
        labels=numbers,
        classes=len(class_names) or max(2, int(numbers.max()) + 1),
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
    require_memory(total, str(path), "split the file")
