"""What a file says beside its weights: architecture, normalisation, accuracy; and how checkpoints are
saved with it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from robustbench_coded.models.archive import Archive
from robustbench_coded.models.normalisation import KNOWN, Normalisation, named
from robustbench_coded.models.refusal import Refused
from robustbench_coded.runs.atomic import write_bytes

# Names of the accuracy on test or validation images.
ON_TEST_IMAGES = (
    "best_prec1", "best_acc1", "best_acc", "best_accuracy", "best_top1", "best_test_acc", "best_val_acc",
    "clean_acc", "clean_accuracy", "natural_acc", "nat_acc", "standard_acc", "standard_accuracy", "test_acc",
    "test_acc1", "test_accuracy", "test_prec1", "test_top1", "test_clean_acc", "test_standard_acc",
    "test_natural_acc", "val_acc", "val_acc1", "val_accuracy", "val_prec1", "val_top1", "valid_acc",
    "eval_acc", "eval_accuracy",
)  # fmt: skip

# Names that do not say on which images; the training images are possible.
ON_ANY_IMAGES = ("acc", "acc1", "accuracy", "prec1", "top1", "top1_acc")

# Words of further names, as ``best_clean_acc`` or ``metrics/val_acc@1``: each has one of the first row, and
# others of these alone. A word that is not here, as ``train``, ``robust`` or ``pgd``, is another figure.
_ACCURACY = frozenset({"acc", "acc1", "accuracy", "prec1", "top1", "prec", "top"})
_IMAGES = frozenset(
    {"test", "val", "valid", "validation", "eval", "clean", "natural", "nat", "standard", "std"}
)
_BESIDE = frozenset({"best", "final", "last", "max", "1", "metric", "metrics", "result", "results", "stats"})

# How far the network may fall short of what its file states, in [0, 1]. The weights are the last epoch's and
# the figure the best one's, or the images are others: on test images that is less than 2 points (published
# files here: 0.3 at most). Training images are answered better by a few points more; a larger gap cannot be
# told from a network that was put together wrongly.
SHORTFALL_ON_TEST_IMAGES = 0.02
SHORTFALL_ON_ANY_IMAGES = 0.05


def is_accuracy(name: str) -> bool:
    """Whether an entry of that name is an accuracy, however it is spelt: ``test/acc``, ``Best_Prec1``."""
    words = _words(name)
    ranked = {"prec", "top"} & words  # top_5 is another figure, top alone none
    return (
        bool(words & _ACCURACY)
        and words <= _ACCURACY | _IMAGES | _BESIDE
        and (not ranked or "1" in words or bool(words & {"acc1"}))
    )


def allowed_shortfall(name: str) -> float:
    """How far below the stated accuracy the measured one may be, by the entry's name."""
    of_test_images = _spelt(name) in ON_TEST_IMAGES or _words(name) & (_IMAGES | {"best"})
    return SHORTFALL_ON_TEST_IMAGES if of_test_images else SHORTFALL_ON_ANY_IMAGES


def stored_accuracy(entries: Mapping[str, Any]) -> tuple[str, float] | None:
    """The entry to believe among the values beside the weights, as a fraction in [0, 1].

    One on test images comes before one that does not say.
    """
    names = [name for name in entries if isinstance(name, str) and is_accuracy(name)]
    known = [*ON_TEST_IMAGES, "", *ON_ANY_IMAGES]

    def place(name: str) -> tuple[int, bool]:
        spelt = _spelt(name)
        return known.index(spelt) if spelt in known else known.index(""), not _words(name) & _IMAGES

    for name in sorted(names, key=place):
        if (value := _fraction(entries[name])) is not None:
            return name, value
    return None


def _fraction(value: Any) -> float | None:
    """A figure from 0 to 1 or in percent, also as text; None where it is no accuracy."""
    percent = isinstance(value, str) and value.strip().endswith("%")
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%"))
        except ValueError:
            return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 100:
        return None
    return float(value) if value <= 1 and not percent else value / 100


def _words(name: str) -> frozenset[str]:
    return frozenset(_spelt(name).split("_"))


def _spelt(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


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
        normalisation = KNOWN.get(channels, {}).get(stored)
    else:
        normalisation = named(tuple(stored["mean"]), tuple(stored["std"]))
    if normalisation is None or len(normalisation.mean) != channels:
        raise Refused(f"its metadata's normalisation is not for {channels} channels; pass --normalize")
    return normalisation


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


def save_checkpoint(path: str | Path, network: nn.Module, metadata: dict[str, Any]) -> None:
    """Saves the weights of ``network`` beside ``metadata``.

    Args:
        path: a file ending in ``.safetensors``; one that is there is replaced in one step.
        network: as built by ``models.build``; saved from whatever device it is on.
        metadata: plain data; ``arch``, ``classes``, ``image_shape`` ([channels, height, width]) and
            ``normalisation`` (``{"mean": [...], "std": [...]}`` or a known name) are what loading reads.
    Raises:
        ValueError: weights that are NaN or infinite, or metadata that are not JSON.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"expected finite weights, got NaN or infinite ones in {name}")
    try:
        text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"expected metadata fit for JSON, got {error}") from None
    write_bytes(Path(path), safetensors.torch.save(tensors, {KEY: text}))
