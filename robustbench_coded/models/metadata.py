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

# Accuracies on clean images: ``best_prec1``, ``Test/Acc``, ``val_acc@1``. Those of a name with another word,
# as ``train``, ``robust`` or ``pgd``, are other figures.
_ACCURACY = re.compile(
    r"((best|test|val|valid|validation|eval|clean|natural|nat|standard|std|final|last|metrics?)[_/ ]*)*"
    r"(acc|accuracy|(acc|prec|top)[_@]?1)",
    re.IGNORECASE,
)


def stored_accuracy(entries: Mapping[str, Any]) -> tuple[str, float] | None:
    """The accuracy that a file states among the values beside its weights, in [0, 1], with its name.

    One that says on which images comes before one that does not.
    """
    found = [
        (not said[1], name, value if value <= 1 else value / 100)
        for name, value in entries.items()
        if (said := _ACCURACY.fullmatch(name)) and type(value) in (int, float) and 0 < value <= 100
    ]
    return min(found)[1:] if found else None


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
        if isinstance(value, Tensor) and value.numel() == 1 and _ACCURACY.fullmatch(name):
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
