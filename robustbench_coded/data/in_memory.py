"""Labelled images that are in memory already: tensors, arrays, or whatever serves them in batches."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError

EXPECTED = "x uint8 [n, C, H, W] or floats in [0, 1], C 1 or 3, and y integers [n]"


def dataset_in_memory(
    data: Any, *, classes: int | None = None, name: str = "in memory", source: str = ""
) -> Dataset:
    """Images and labels as a data set.

    Args:
        data: a Dataset, taken as it is; a pair (x, y) of tensors or arrays, x uint8 ``[n, C, H, W]`` or
            floats in [0, 1], y integers ``[n]``; or an iterable of such pairs, for example a DataLoader,
            whose batches are joined in the order in which they come once.
        classes: number of classes; None for the largest label plus one, at least 2.
        name: as tables name the data.
        source: where the images came from, in words, for reports.
    Raises:
        InputError: other shapes or types, NaN, pixels or labels out of range, or nothing at all.
    """
    if isinstance(data, Dataset):
        return data
    x, y = _joined(data, name)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        raise InputError(f"{name}: expected {EXPECTED}, got x {x.dtype} {list(x.shape)}")
    if y.dtype.kind not in "iu" or y.shape != (len(x),):
        raise InputError(f"{name}: expected {EXPECTED}, got y {y.dtype} {list(y.shape)} for {len(x)} images")
    if x.dtype != np.uint8:
        if x.dtype.kind != "f" or not np.isfinite(x).all() or x.min() < 0 or x.max() > 1:
            raise InputError(
                f"{name}: expected {EXPECTED}, got {x.dtype} in [{x.min():g}, {x.max():g}]; normalisation "
                "belongs into the model"
            )
        x = x.astype(np.float32, copy=False)
    top = int(y.max())
    if int(y.min()) < 0 or (classes is not None and top >= classes):
        wrong = int(y.min()) if int(y.min()) < 0 else top
        raise InputError(f"{name}: label {wrong} is out of range; labels are 0 to {(classes or top + 1) - 1}")
    return Dataset(
        name=name,
        images=np.ascontiguousarray(x.transpose(0, 2, 3, 1)),
        scale=255.0 if x.dtype == np.uint8 else 1.0,
        labels=y.astype(np.int64),
        classes=classes or max(2, top + 1),
        class_names=(),
        source=source or f"{len(x)} images in memory",
    )


def _joined(data: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One array of images and one of labels."""
    if isinstance(data, tuple | list) and len(data) == 2 and getattr(data[0], "ndim", 0) == 4:
        return _array(data[0]), _array(data[1])
    if not isinstance(data, Iterable):
        raise InputError(f"{name}: expected a pair (x, y) or a DataLoader, got {type(data).__name__}")
    images, labels = [], []
    for batch in data:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise InputError(f"{name}: expected batches (x, y), got {type(batch).__name__}")
        images.append(_array(batch[0]))
        labels.append(_array(batch[1]))
    if not images:
        raise InputError(f"{name}: there are no images; expected {EXPECTED}")
    try:
        return np.concatenate(images), np.concatenate(labels)
    except ValueError as error:
        raise InputError(f"{name}: its batches do not fit together ({error}); expected {EXPECTED}") from error


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        # numpy has no bfloat16.
        return (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)
