"""Metadata of a file: architecture, normalisation, accuracy."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from torch import Tensor

from robustbench_coded.models.archive import Archive
from robustbench_coded.models.normalisation import KNOWN, Normalisation, named
from robustbench_coded.models.refusal import Refused

# Words of the names of accuracies, as ``best_prec1``, ``Test/Acc`` or ``metrics/val_acc@1``: each has one of
# the first row, and others of these alone. A word that is not here, as ``train``, ``robust`` or ``pgd``, is
# another figure. Without one of the second row it may be of the training images.
_ACCURACY = frozenset({"acc", "acc1", "accuracy", "prec1", "top1", "prec", "top"})
_ON_TEST_IMAGES = frozenset(
    {"test", "val", "valid", "validation", "eval", "clean", "natural", "nat", "standard", "std", "best"}
)
_BESIDE = frozenset({"final", "last", "max", "1", "metric", "metrics", "result", "results", "stats"})

# How far the network may fall short of what its file states, in [0, 1]: three standard errors, and on images
# that may be those of training a few points more. Beside an activation that is not there, a network may lose
# less than one.
STANDARD_ERRORS = 3
SHORTFALL_ON_ANY_IMAGES = 0.05


def is_accuracy(name: str) -> bool:
    """True if an entry of that name is an accuracy, however it is spelt: ``test/acc``, ``Best_Prec1``."""
    words = _words(name)
    ranked = {"prec", "top"} & words  # top_5 is another figure, top alone none
    return (
        bool(words & _ACCURACY)
        and words <= _ACCURACY | _ON_TEST_IMAGES | _BESIDE
        and (not ranked or "1" in words or "acc1" in words)
    )


def allowed_shortfall(name: str, stated: float, images: int) -> float:
    """How far below the stated accuracy the measured one may be, by the entry's name."""
    error = ((stated * (1 - stated) + 1 / images) / images) ** 0.5
    return STANDARD_ERRORS * error + (0.0 if _on_test_images(name) else SHORTFALL_ON_ANY_IMAGES)


def _on_test_images(name: str) -> bool:
    return bool(_words(name) & _ON_TEST_IMAGES)


def stored_accuracy(entries: Mapping[str, Any]) -> tuple[str, float] | None:
    """The entry to believe among the values beside the weights, as a fraction in [0, 1].

    One on test images comes before one that does not say.
    """
    names = [name for name in entries if isinstance(name, str) and is_accuracy(name)]
    for name in sorted(names, key=lambda name: not _on_test_images(name)):
        if (value := _fraction(entries[name])) is not None:
            return name, value
    return None


def _fraction(value: Any) -> float | None:
    """A figure from 0 to 1 or in percent; None where it is no accuracy."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 100:
        return None
    return float(value) if value <= 1 else value / 100


def _words(name: str) -> frozenset[str]:
    return frozenset(re.split(r"[^a-z0-9]+", name.lower())) - {""}


KEY = "csrobust"  # the entry of a safetensors header that has this project's own, as JSON

Positive = Annotated[int, msgspec.Meta(ge=1)]


class _MeanAndStd(msgspec.Struct):
    mean: tuple[float, ...]
    std: tuple[float, ...]


class _Known(msgspec.Struct):
    """The entries that loading reads; a file may have others."""

    arch: str | None = None
    classes: Annotated[int, msgspec.Meta(ge=2)] | None = None
    image_shape: tuple[Positive, Positive, Positive] | None = None
    normalisation: str | _MeanAndStd | None = None


def read_metadata(archive: Archive) -> dict[str, Any]:
    """The entries under :data:`KEY`; empty where there are none.

    ``arch`` (str), ``classes`` (int), ``image_shape`` ([channels, height, width]) and ``normalisation`` (a
    known name, or ``mean`` and ``std``) are checked here; the others (``data``, ``recipe``, ``seed``,
    ``accuracy`` and so on) are passed on.

    Raises:
        Refused: not JSON, or one of those entries of another form.
    """
    try:
        metadata = json.loads(archive.metadata.get(KEY, "{}"))
        msgspec.convert(metadata, _Known)
    except msgspec.ValidationError as error:
        raise Refused(f"its metadata entry {KEY}: {str(error)[:150]}") from None
    except (ValueError, RecursionError):
        raise Refused(f"its metadata entry {KEY} is not JSON") from None
    return metadata


def plain_entries(archive: Archive) -> dict[str, str | int | float | bool]:
    """Single values stored beside the weights by others, such as ``best_prec1``; long texts are left out."""
    beside = archive.metadata if archive.metadata else archive.contents
    entries: dict[str, str | int | float | bool] = {}
    for name, value in beside.items() if isinstance(beside, dict) else ():
        if not isinstance(name, str) or name == KEY:
            continue
        if isinstance(value, Tensor) and value.numel() == 1 and is_accuracy(name):
            value = float(value)  # as much older code stores it
        if isinstance(value, str | int | float | bool) and len(name) <= 60 and len(str(value)) <= 200:
            entries[name] = value
    return entries


def stored_normalisation(metadata: dict[str, Any], channels: int) -> Normalisation | None:
    """The normalisation that checked metadata name, for that many channels.

    Raises:
        Refused: there is none of that name, or it is for another number of channels.
    """
    stored = metadata.get("normalisation")
    if stored is None:
        return None
    try:
        if isinstance(stored, str):
            normalisation = KNOWN.get(channels, {}).get(stored)
        else:
            normalisation = named(tuple(stored["mean"]), tuple(stored["std"]))
    except ValueError as error:
        raise Refused(f"its metadata's normalisation: {error}") from None
    if normalisation is None or len(normalisation.mean) != channels:
        raise Refused(f"its metadata's normalisation is not for {channels} channels; pass --normalize")
    return normalisation
