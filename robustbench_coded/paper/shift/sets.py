"""Shifted test sets as data that ``--data`` names.

corrupted:DATA/NAME/SEVERITY    a data set under a corruption, made when its images are read
cifar10c:DIR/NAME/SEVERITY      CIFAR-10-C as published
cifar10.1:DIR/VERSION           CIFAR-10.1, v4 or v6
cifar10.2:DIR/test              CIFAR-10.2
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.paper.shift.corruptions import CONSTANTS, SEVERITIES, corrupt, corruptions_for
from robustbench_coded.reports.text.formatting import papers_set

CLEAN = "clean"  # the name of a set as it is
CIFAR10C_IMAGES = 10_000
SEED = 0  # of the corruptions, whatever that of a run: a set has the same images in every run


class Published(NamedTuple):
    """Sets that others published as files.

    Attributes:
        collection: as reports name it.
        names: what the place in the files' names may be.
        images, labels: names of files, with a place for a name, and of arrays in one that has several.
        origin: where they are from.
    """

    collection: str
    names: tuple[str, ...]
    images: tuple[str, str]
    labels: tuple[str, str]
    origin: str


PUBLISHED = {
    "cifar10c": Published(
        "CIFAR-10-C (published)",
        tuple(CONSTANTS),
        ("{}.npy", ""),
        ("labels.npy", ""),
        "CIFAR-10-C of Hendrycks and Dietterich (Zenodo 2535967), unpacked: fog.npy ... labels.npy",
    ),
    "cifar10.1": Published(
        "CIFAR-10.1",
        ("v4", "v6"),
        ("cifar10.1_{}_data.npy", ""),
        ("cifar10.1_{}_labels.npy", ""),
        "cifar10.1_v4_data.npy, cifar10.1_v4_labels.npy, or v6, of the CIFAR-10.1 repository",
    ),
    "cifar10.2": Published(
        "CIFAR-10.2",
        ("test",),
        ("cifar102_{}.npz", "images"),
        ("cifar102_{}.npz", "labels"),
        "cifar102_test.npz (images, labels) of the CIFAR-10.2 repository",
    ),
}


class ShiftSet(NamedTuple):
    """A set as reports name it.

    Attributes:
        collection: what it belongs to: ``CIFAR-10-C (ours)``, ``CIFAR-10.1`` ...
        name: ``clean``, a corruption, or a version (``v6``).
        severity: 1 to 5; 0 where there is none.
        data: as ``--data`` takes it.
    """

    collection: str
    name: str
    severity: int
    data: str

    @property
    def folder(self) -> str:
        """Its run folder within that of all: ``cifar-10-c-ours-fog-3``."""
        return plain(f"{self.collection} {self.name} {self.severity or ''}")


def plain(text: str) -> str:
    """A text as the name of a file."""
    return re.sub("[^a-z0-9.]+", "-", text.lower()).strip("-.")


def sets_of(
    spec: str, corruptions: Sequence[str], severities: Sequence[int], data_dir: str | None
) -> list[ShiftSet]:
    """The sets of one ``--data`` of ``csrobust paper shift``.

    Args:
        spec: data that ``csrobust eval`` knows, which are corrupted here; or the folder of published sets,
            ``cifar10c:DIR`` ... or ``imagenet-r:DIR``, which are evaluated as they are.
        corruptions: names; empty for all that there are.
        data_dir: where named data are looked for first.

    Raises:
        InputError: missing data, or a corruption that these images can't have; the message says what to give.
    """
    kind, _, place = spec.partition(":")
    if kind == "imagenet-r":
        return [ShiftSet("ImageNet-R", "test", 0, spec)]
    data = None if kind in PUBLISHED else load_data(spec, data_dir=data_dir)
    channels = 3 if data is None else data.image_shape[0]
    asked = [(name, s) for name in corruptions or corruptions_for(channels) for s in severities]
    for name, severity in asked:
        refuse(name, severity, channels)
    if data is not None:
        cifar10 = papers_set(spec) == "cifar10" and data.classes == 10
        title = f"{'CIFAR-10' if cifar10 else Path(place or spec).stem.lower()}-C (ours)"
        made = [ShiftSet(title, name, s, f"corrupted:{spec}/{name}/{s}") for name, s in asked]
        return [ShiftSet(title, CLEAN, 0, spec), *made]
    there = PUBLISHED[kind]
    wanted = asked if kind == "cifar10c" else [(name, 0) for name in there.names]
    found = [
        ShiftSet(there.collection, name, s, f"{spec}/{name}{f'/{s}' if s else ''}")
        for name, s in wanted
        if (Path(place) / there.images[0].format(name)).is_file()
    ]
    if not found:
        raise InputError(f"{spec}: nothing to evaluate there; it should hold {there.origin}")
    return found


def refuse(name: str, severity: int, channels: int) -> None:
    """Raises InputError for a corruption that there is not, or that images of so many channels can't have."""
    if name not in CONSTANTS:
        near = did_you_mean(name, list(CONSTANTS))
        raise InputError(f"{name}: no such corruption; {near}known: {', '.join(CONSTANTS)}")
    if severity not in SEVERITIES:
        raise InputError(f"{name} {severity}: severities are 1, 2, 3, 4 and 5")
    if name not in corruptions_for(channels):
        raise InputError(f"{name}: grey images have no colours; leave it out")


class CorruptedImages:
    """Images [n, H, W, C] uint8 of a data set under a corruption, each made when it is first read."""

    def __init__(self, data: Dataset, name: str, severity: int):
        self.shape = data.images.shape
        self._data, self._corruption = data, (name, severity, SEED)
        self._made: dict[int, np.ndarray] = {}

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        new = np.array([row for row in dict.fromkeys(rows.tolist()) if row not in self._made], dtype=np.int64)
        if len(new):
            images = self._data.images[new]
            if images.dtype != np.uint8 or self._data.scale != 255.0:
                images = np.round(images.astype(np.float64) * (255.0 / self._data.scale)).astype(np.uint8)
            self._made.update(zip(new.tolist(), corrupt(images, new, *self._corruption)))
        return np.stack([self._made[row] for row in rows.tolist()])

    def contents(self, labels: np.ndarray, /) -> list[int]:
        """Equal for images that repeat one another before they are corrupted: every set of a collection has
        the same examples, also where a corruption makes two of them alike.
        """
        rows = np.arange(len(labels))
        first, of_label = np.unique(labels, return_index=True, return_inverse=True)[1:]
        return np.where(np.isin(rows, self._data.distinct), rows, first[of_label]).tolist()


def corrupted(spec: str, *, data_dir: Path | str | None, split: str) -> Dataset:
    """``corrupted:DATA/NAME/SEVERITY``: the labels and classes of DATA, and its images under a corruption.

    Raises:
        InputError: unknown data or an unknown corruption.
    """
    whole, name, severity = _parts(spec)
    data = load_data(whole, data_dir=data_dir, split=split)
    refuse(name, severity, data.image_shape[0])
    source = f"{data.source}, {name.replace('_', ' ')} of severity {severity} made by csrobust"
    images = CorruptedImages(data, name, severity)
    return replace(data, name=spec, images=images, scale=255.0, source=source, reference=data)


def published(spec: str, *, data_dir: Path | str | None, split: str) -> Dataset:
    """``cifar10c:DIR/NAME/SEVERITY``, 10,000 images; ``cifar10.1:DIR/VERSION``; ``cifar10.2:DIR/test``.

    Raises:
        InputError: files are missing or not what they should be.
    """
    kind, place = spec.split(":", 1)
    if kind == "cifar10c":
        folder, name, severity = _parts(spec)
        part = slice((severity - 1) * CIFAR10C_IMAGES, severity * CIFAR10C_IMAGES)
    else:
        folder, _, name = place.rpartition("/")
        part = slice(None)
    there = PUBLISHED[kind]
    images, labels = (_stored(Path(folder) / file.format(name), key, there)[part] for file, key in there[2:4])
    count = len(labels)
    fits = images.dtype == np.uint8 and images.shape == (count, 32, 32, 3) and count > 0
    if not fits or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        found = f"{images.dtype} {list(images.shape)} and {count} labels"
        expected = f"uint8 [n, 32, 32, 3] and n labels from 0 to 9; it should hold {there.origin}"
        raise InputError(f"{spec}: expected {expected}, got {found}")
    try:
        reference = load_data("cifar10", data_dir=data_dir)
    except InputError:  # networks are recognised by the set itself
        reference = None
    whole = Dataset(spec, images, 255.0, labels.astype(np.int64), 10, (), there.origin, reference=reference)
    # As a part of itself: images that a corruption has made alike are all evaluated.
    return whole.subset(np.arange(count))


def _parts(spec: str) -> tuple[str, str, int]:
    """What is before a corruption, the corruption and its severity."""
    whole, name, severity = ["", "", *spec.partition(":")[2].rsplit("/", 2)][-3:]
    if not whole or not severity.isdecimal():
        raise InputError(f"{spec}: end it with a corruption and its severity, as /fog/3")
    refuse(name, int(severity), 3)
    return whole, name, int(severity)


def _stored(path: Path, name: str, of: Published) -> Any:
    """The array of a file, or that of this name in it."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        return stored[name] if name else stored
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} can't be read ({error}); expected {of.origin}") from error
