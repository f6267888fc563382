"""Images and labels as arrays: tensors, arrays, pairs and torch data sets in memory, whatever their form,
and .npz files.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError, described

SHAPES = "[n, C, H, W], [n, H, W, C] or [n, H, W], C 1 or 3"
EXPECTED = f"x uint8 or floats in [0, 1], {SHAPES}, and y integers [n]"
# As data sets of Hugging Face, torchattacks and NumPy archives call them.
IMAGES = ("pixel_values", "image", "images", "img", "x")
LABELS = ("labels", "label", "y", "target", "targets", "fine_label")
ROUNDING = 1e-6  # beyond [0, 1], of floats that a normalisation was taken off


def dataset_in_memory(
    data: Any, *, classes: int | None = None, name: str = "in memory", source: str = ""
) -> Dataset:
    """Images and labels as a data set.

    Args:
        data: a Dataset of this project, taken as it is; a pair (x, y) of tensors, arrays or lists; a
            dictionary of them; or what yields such pairs or dictionaries, image by image or in batches:
            ``torch.utils.data``'s data sets and loaders, Hugging Face's data sets, a list. It is read once.
            A loader that shuffles yields the same order whenever it is read. Of longer tuples the first two
            count.
        classes: number of classes; None for the largest label plus one, at least 2.
        name: as tables name the data.
        source: where the images came from, in words, for reports.
    Raises:
        InputError: none of these; other shapes or types, NaN, pixels or labels out of range; more than fits
            into memory.
    """
    if isinstance(data, Dataset):
        return data
    x, y = _joined(data, name)
    return _labelled(x, y, name, classes=classes, source=source or f"{len(x)} images in memory")


def _labelled(
    x: Any,
    y: Any,
    name: str,
    *,
    classes: int | None,
    source: str,
    channels_last: bool = False,
    class_names: tuple[str, ...] = (),
) -> Dataset:
    """Images and labels as a data set; for the arguments see `pixels` and `labels`."""
    notes: tuple[str, ...] = ()
    if only_zeros_and_ones(x := array(x)):
        x = x.astype(np.float32)
        notes = (f"{name}: the uint8 pixels are all 0 or 1, so 1 is taken for white, not 255",)
    images = pixels(x, name, channels_last=channels_last)
    numbers = labels(y, len(images), name, classes=classes)
    return Dataset(
        name=name,
        images=images,
        scale=255.0 if images.dtype == np.uint8 else 1.0,
        labels=numbers,
        classes=classes or max(2, int(numbers.max()) + 1),
        class_names=class_names,
        source=source,
        notes=notes,
    )


def only_zeros_and_ones(x: np.ndarray) -> bool:
    """True if images are uint8 of two values, of which 1 may be white as well as nearly black."""
    return x.dtype == np.uint8 and x.size > 0 and x.max() == 1


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """What the user's data set raises is an InputError; torch's generator starts at 0."""
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(0)
        yield
    except InputError:
        raise
    except Exception as error:  # the user's code can fail in any way
        raise InputError(f"{name}: it can't be read: {described(error)}") from error
    finally:
        torch.set_rng_state(state)


def pixels(x: Any, name: str, *, channels_last: bool = False) -> np.ndarray:
    """Images [n, H, W, C], uint8, or float32 in [0, 1].

    Args:
        x: uint8, or floats in [0, 1] of any precision; in a shape that `channels_at_the_end` takes.
        channels_last: as there.
    Raises:
        InputError: anything else; the message begins with ``name``.
    """
    x = channels_at_the_end(x, name, channels_last=channels_last)
    if only_zeros_and_ones(x):
        mend = "give x as floats where 1 is white, x / 255 where 255 is"
        raise InputError(f"{name}: the uint8 pixels are all 0 or 1; {mend}")
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind != "f":
        mend = "; where they go from 0 to 255, x.astype('uint8')" if x.dtype.kind in "iu" else ""
        if mend and x.max() > 255:
            mend = "; where they have 16 bits, x / 65535"
        raise InputError(f"{name}: expected pixels uint8 or floats in [0, 1], got {x.dtype}{mend}")
    lowest, highest = float(x.min()), float(x.max())
    check_range(lowest, highest, name)
    x = x.astype(np.float32, copy=False)
    return x if lowest >= 0 and highest <= 1 else x.clip(0, 1)


def check_range(lowest: float, highest: float, name: str) -> None:
    """Raises InputError for pixels further outside [0, 1] than rounding takes them, or NaN."""
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise InputError(f"{name}: expected pixels in [0, 1], got NaN or infinite values")
    if lowest < -ROUNDING or highest > 1 + ROUNDING:
        mend = "divide them by the value of white, for example x / 255"
        if lowest < 0:
            mend = (
                "where they are normalised, undo that, and let the network begin with it: "
                "nn.Sequential(torchvision.transforms.Normalize(mean, std), model)"
            )
        raise InputError(f"{name}: expected pixels in [0, 1], got [{lowest:g}, {highest:g}]; {mend}")


def channels_at_the_end(x: Any, name: str, *, channels_last: bool = False) -> np.ndarray:
    """Images of any type as [n, H, W, C].

    Args:
        x: [n, C, H, W], [n, H, W, C] or [n, H, W], C 1 or 3.
        channels_last: whether a shape that may be either is [n, H, W, C].
    Raises:
        InputError: another shape; the message begins with ``name``.
    """
    x = array(x)
    if x.ndim == 3:
        x = x[..., None]
    elif x.ndim == 4 and x.shape[1] in (1, 3) and not (channels_last and x.shape[3] in (1, 3)):
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    if x.ndim != 4 or x.shape[3] not in (1, 3) or 0 in x.shape:
        table = "; a table: give x.reshape(len(x), 1, 1, -1), and let the network begin with x = x.flatten(1)"
        mend = table if x.ndim == 2 else ""
        raise InputError(f"{name}: expected images {SHAPES}, got {x.dtype} {list(x.shape)}{mend}")
    return x


def labels(y: Any, count: int, name: str, *, classes: int | None = None) -> np.ndarray:
    """Labels [n] int64.

    Args:
        y: [n] or [n, 1], integers of any type or floats that are whole numbers.
        count: n.
        classes: labels have to be below it; None for any.
    Raises:
        InputError: anything else; the message begins with ``name``.
    """
    y = array(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    whole = y.dtype.kind in "iub" or (y.dtype.kind == "f" and bool((y == np.round(y)).all()))
    if y.shape != (count,) or not whole:
        hint = ""
        if y.ndim == 2 and len(y) == count:
            hint = "; where they are one-hot, y.argmax(1)"
        elif y.dtype.kind in "US":
            hint = "; number the classes: numpy.unique(y, return_inverse=True)[1]"
        raise InputError(
            f"{name}: expected y integers [{count}], one for each image, got {y.dtype} {list(y.shape)}{hint}"
        )
    top = classes - 1 if classes else 2**31
    if wrong := [int(i) for i in np.flatnonzero((y < 0) | (y > top))[:1]]:
        allowed = f"0 to {top}" if classes else "0, 1, 2, ..."
        raise InputError(
            f"{name}: label {y[wrong[0]].item()} of image {wrong[0]} is out of range; labels are {allowed}"
        )
    return y.astype(np.int64)


def require_memory(size: float, name: str, mend: str) -> None:
    """Raises InputError where ``size`` bytes are more than this machine has."""
    if size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        raise InputError(f"{name}: {size / 2**30:.0f} GiB of arrays do not fit into memory; {mend}")


def array(values: Any) -> np.ndarray:
    """A tensor, an array, an image of PIL, or a list of these, as an array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().to_dense()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # numpy has none
    if getattr(getattr(values, "dtype", None), "kind", "") == "O":  # arrays of arrays, columns of pandas
        values = list(values)
    mode = getattr(values, "mode", "RGB") if hasattr(values, "convert") else "RGB"
    if mode not in ("L", "RGB") and not mode.startswith(("I", "F")):  # of more than 8 bits, as they are
        values = values.convert("RGB")  # a palette, or a channel of transparency
    if isinstance(values, list | tuple) and len(values) and not isinstance(values[0], int | float | str):
        return np.stack([array(value) for value in values])
    try:
        return np.asarray(values)
    except ValueError as error:  # a data set has items, too
        raise InputError(f"expected an array or a list of arrays, got {type(values).__name__}") from error


def _joined(data: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """All images and all labels, in the shapes that they have."""
    if hasattr(data, "columns"):  # a frame of pandas
        data = {column: data[column] for column in data.columns}
    parts = [_fields(data, name)] if _is_pair(data) or isinstance(data, Mapping) else _elements(data, name)
    images, numbers, size = [], [], 0
    try:
        for x, y in parts:
            x, y = array(x), array(y)
            size += x.nbytes
            require_memory(
                2 * size, name, "give a part of it, as itertools.islice(data, 1000)"
            )  # once in pieces and once as a whole
            one_image = x.ndim < 4 and y.size == 1
            x = x[None] if one_image else x
            images.append(x[:, None] if x.ndim == 3 else x)  # grey ones, so that a last batch of one fits
            numbers.append(y.reshape(1) if one_image else np.atleast_1d(y))
        if not images:
            raise InputError(f"{name}: there are no images; expected {EXPECTED}")
        return np.concatenate(images), np.concatenate(numbers)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{name}: its images do not fit together ({error}); give them one size and as many channels"
        ) from error


def _is_pair(data: Any) -> bool:
    """True if it is (x, y), not a list of two pairs or of two batches."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        return False
    first = data[0]
    listed = isinstance(first, list | tuple) and not _is_labelled(first) and hasattr(data[1], "__len__")
    return listed or hasattr(first, "ndim")


def _is_labelled(values: list | tuple) -> bool:
    """True if a list holds an image, or a batch of them, and then its label: that has fewer axes."""
    return len(values) > 1 and np.ndim(values[0]) > np.ndim(values[1])


def _elements(data: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """The pairs of a data set, a loader or a list, each of one image or of a batch."""
    iterable, indexed = hasattr(data, "__iter__"), hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if isinstance(data, str | bytes) or hasattr(data, "ndim") or not (iterable or indexed):
        raise InputError(
            f"{name}: expected a pair (x, y), a data set or a DataLoader, got {type(data).__name__}"
        )
    with _readable(name):  # a loader that shuffles has one order
        for number, element in enumerate(data if iterable else (data[i] for i in range(len(data)))):
            x, y = _fields(element, name)
            if number == 0 and hasattr(data, "__len__"):
                require_memory(array(x).nbytes * len(data), name, "give a torch.utils.data.Subset of them")
            yield x, y


def _fields(element: Any, name: str) -> tuple[Any, Any]:
    """Images and labels of one pair, batch or dictionary."""
    if isinstance(element, Mapping):
        x, y = (next((key for key in known if key in element), None) for known in (IMAGES, LABELS))
        if x is None or y is None:
            splits = [key for key, part in element.items() if hasattr(part, "__getitem__") and len(part)]
            if splits and not any(hasattr(element[key], "ndim") for key in splits):  # a DatasetDict
                chosen = "test" if "test" in splits else splits[-1]
                raise InputError(
                    f"{name}: got {len(splits)} data sets ({', '.join(map(str, splits[:10]))}); "
                    f"give one of them: data[{chosen!r}]"
                )
            raise InputError(
                f"{name}: expected images (one of {', '.join(IMAGES)}) and labels (one of "
                f"{', '.join(LABELS)}), got a dictionary of {', '.join(map(str, [*element][:10]))}"
            )
        return element[x], element[y]
    if not isinstance(element, tuple | list) or len(element) < 2:
        what = type(element).__name__ + (f" of {len(element)}" if isinstance(element, tuple | list) else "")
        raise InputError(f"{name}: expected pairs (image, label) or batches (x, y), got {what}")
    return element[0], element[1]


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
    data = _labelled(
        x,
        y,
        str(path),
        classes=len(class_names) or None,
        source=f"{path.name} ({len(x)} images)",
        channels_last=True,
        class_names=class_names,
    )
    return replace(data, name=name or f"npz:{path}")


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if missing := [key for key in ("x", "y") if key not in arrays.files]:
                held = ", ".join(sorted(arrays.files)[:10]) or "nothing"
                raise InputError(
                    f"{path}: no array named {' or '.join(missing)} (it holds {held}); expected {EXPECTED}"
                )
            # The arrays' headers cannot promise more: numpy reads no further than the file goes.
            size = sum(arrays.zip.getinfo(f"{key}.npy").file_size for key in "xy")
            require_memory(size, str(path), "split the file")
            return arrays["x"], arrays["y"]
    except InputError:
        raise
    except Exception as error:  # damage shows in a dozen types
        raise InputError(f"{path}: not a readable .npz file ({error}); expected {EXPECTED}") from error
