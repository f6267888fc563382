"""What this project writes beside the weights: JSON under one key, read back without believing it."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from robustbench_coded.models.archive import Archive
from robustbench_coded.models.normalisation import KNOWN, Normalisation, named
from robustbench_coded.models.refusal import Refused
from robustbench_coded.models.stored_accuracy import is_accuracy

# In a safetensors header its JSON; in a file of torch.save a dict entry of that name.
KEY = "csrobust"

MAX_NODES = 2_000
MAX_DEPTH = 8


def read_metadata(archive: Archive) -> dict[str, Any]:
    """The entries under :data:`KEY`, plain data; empty where there are none.

    ``arch`` (str), ``classes`` (int), ``image_shape`` ([channels, height, width]) and ``normalisation`` (a
    known name, or ``mean`` and ``std``) are checked here; the others (``data``, ``recipe``, ``seed``,
    ``accuracy`` and so on) are passed on.

    Raises:
        Refused: not JSON, not plain data, or one of those entries of another form.
    """
    metadata: Any = {}
    if KEY in archive.metadata:
        try:
            metadata = json.loads(archive.metadata[KEY])
        except (ValueError, RecursionError):
            raise Refused(f"its metadata entry {KEY} is not JSON") from None
    elif isinstance(archive.contents, dict) and KEY in archive.contents:
        metadata = archive.contents[KEY]
    metadata = _plain(metadata, [MAX_NODES])
    if not isinstance(metadata, dict):
        raise Refused(f"its metadata entry {KEY} is not a table")
    _check(metadata)
    return metadata


def plain_entries(archive: Archive) -> dict[str, str | int | float | bool]:
    """Single values stored beside the weights by others, such as ``best_prec1``; long texts are left out."""
    beside = archive.metadata if archive.metadata else archive.contents
    entries: dict[str, str | int | float | bool] = {}
    for name, value in _one_level_down(beside) if isinstance(beside, dict) else ():
        if not isinstance(name, str):
            continue
        if is_accuracy(name) and isinstance(value, Tensor) and value.numel() == 1:
            value = float(value)  # as much older code stores it
        if isinstance(value, np.generic):
            value = value.item()
        plain = isinstance(value, str | int | float | bool)
        if plain and name != KEY and len(name) <= 60 and len(str(value)) <= 200:
            entries[name] = value
    return entries


def _one_level_down(beside: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """The entries, and accuracies in a dict among them under both names, as ``metrics/test_acc``."""
    for name, value in beside.items():
        yield name, value
        if isinstance(name, str) and isinstance(value, dict):
            both = ((f"{name}/{inner}", one) for inner, one in value.items() if isinstance(inner, str))
            yield from ((full, one) for full, one in both if is_accuracy(full))


def stored_normalisation(metadata: dict[str, Any], channels: int) -> Normalisation | None:
    """The normalisation that checked metadata name, for that many channels.

    Raises:
        Refused: it is for another number of channels.
    """
    stored = metadata.get("normalisation")
    if stored is None:
        return None
    if isinstance(stored, str):
        found = KNOWN.get(channels, {}).get(stored)
    else:
        found = named(tuple(stored["mean"]), tuple(stored["std"]))
    if found is None or len(found.mean) != channels:
        raise Refused(f"its metadata's normalisation is not for {channels} channels; pass --normalize")
    return found


def _plain(value: Any, left: list[int], depth: int = 0) -> Any:
    """A copy of JSON-like data; a pickle may hold cycles, or lists that share parts a million times over."""
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        raise Refused(f"its metadata entry {KEY} is too large")
    if isinstance(value, dict):
        return {str(name): _plain(entry, left, depth + 1) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, left, depth + 1) for entry in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise Refused(f"its metadata entry {KEY} holds a {type(value).__name__}; plain values are read")


def _check(metadata: dict[str, Any]) -> None:
    arch, classes, shape = (metadata.get(name) for name in ("arch", "classes", "image_shape"))
    if arch is not None and not isinstance(arch, str):
        raise Refused(f"its metadata's arch is no name: {str(arch)[:60]}")
    if classes is not None and (type(classes) is not int or classes < 2):
        raise Refused(f"its metadata's classes is no count of at least 2: {str(classes)[:60]}")
    if shape is not None and not (
        isinstance(shape, list) and len(shape) == 3 and all(type(side) is int and side > 0 for side in shape)
    ):
        raise Refused(f"its metadata's image_shape is not [channels, height, width]: {str(shape)[:60]}")
    normalisation = metadata.get("normalisation")
    if normalisation is None or (isinstance(normalisation, str) and normalisation in KNOWN[1] | KNOWN[3]):
        return
    try:
        named(tuple(normalisation["mean"]), tuple(normalisation["std"]))
    except (KeyError, TypeError, ValueError):
        raise Refused("its metadata's normalisation is neither a known name nor mean and std") from None
