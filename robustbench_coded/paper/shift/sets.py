"""Shifted test sets as data that ``--data`` names.

corrupted:DATA/NAME/SEVERITY    a data set under a corruption, made when its images are read
cifar10c:DIR/NAME/SEVERITY      CIFAR-10-C as published
cifar10.1:DIR/VERSION           CIFAR-10.1, v4 or v6
cifar10.2:DIR                   CIFAR-10.2
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
WHERE = {
    "cifar10c": "CIFAR-10-C of Hendrycks and Dietterich (Zenodo 2535967), unpacked: fog.npy ... labels.npy",
    "cifar10.1": "cifar10.1_v4_data.npy, cifar10.1_v4_labels.npy, or v6, of the CIFAR-10.1 repository",
    "cifar10.2": "cifar102_test.npz (images, labels) of the CIFAR-10.2 repository",
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
        spec: data that ``csrobust eval`` knows, which are corrupted here; or the folder of a published set,
            ``cifar10c:DIR`` ..., or ``imagenet-r:DIR``, which are evaluated as they are.
        corruptions: names; empty for all that there are.
        data_dir: where named data are looked for first.

    Raises:
        InputError: missing data, or a corruption that these images can't have; the message says what to give.
    """
    kind, _, place = spec.partition(":")
    data = None if kind in (*WHERE, "imagenet-r") else load_data(spec, data_dir=data_dir)
    channels = 3 if data is None else data.image_shape[0]
    names = corruptions or corruptions_for(channels)
    for name in names:
        for severity in severities:
            refuse(name, severity, channels)
    if data is not None:
        cifar10 = papers_set(spec) == "cifar10" and data.classes == 10
        title = f"{'CIFAR-10' if cifar10 else Path(place or spec).stem.lower()}-C (ours)"
        made = [
            ShiftSet(title, name, s, f"corrupted:{spec}/{name}/{s}") for name in names for s in severities
        ]
        return [ShiftSet(title, CLEAN, 0, spec), *made]
    there = {
        "imagenet-r": [(ShiftSet("ImageNet-R", "test", 0, spec), "")],
        "cifar10.2": [(ShiftSet("CIFAR-10.2", "test", 0, spec), "cifar102_test.npz")],
        "cifar10.1": [
            (ShiftSet("CIFAR-10.1", version, 0, f"{spec}/{version}"), f"cifar10.1_{version}_data.npy")
            for version in ("v4", "v6")
        ],
        "cifar10c": [
            (ShiftSet("CIFAR-10-C (published)", name, s, f"{spec}/{name}/{s}"), f"{name}.npy")
            for name in names
            for s in severities
        ],
    }
    found = [one for one, file in there[kind] if (Path(place) / file).exists()]
    if not found:
        raise InputError(f"{spec}: nothing to evaluate there; it should hold {WHERE.get(kind, kind)}")
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
        once = np.isin(np.arange(len(labels)), self._data.distinct)
        return np.where(once, np.arange(len(labels)), 0).tolist()


def corrupted(place: str, *, data_dir: Path | str | None, split: str) -> Dataset:
    """``DATA/NAME/SEVERITY``: the labels and classes of DATA, and its images under a corruption.

    Raises:
        InputError: unknown data or an unknown corruption.
    """
    spec, name, severity = _parts("corrupted", place)
    data = load_data(spec, data_dir=data_dir, split=split)
    refuse(name, severity, data.image_shape[0])
    source = f"{data.source}, {name.replace('_', ' ')} of severity {severity} made by csrobust"
    images = CorruptedImages(data, name, severity)
    return replace(data, name=f"corrupted:{place}", images=images, scale=255.0, source=source, reference=data)


def cifar10c(place: str, *, data_dir: Path | str | None, split: str) -> Dataset:
    """``DIR/NAME/SEVERITY``, 10,000 images.

    Raises:
        InputError: files are missing or not what they should be.
    """
    folder, name, severity = _parts("cifar10c", place)
    part = slice((severity - 1) * CIFAR10C_IMAGES, severity * CIFAR10C_IMAGES)
    images, labels = (_stored("cifar10c", Path(folder) / f"{file}.npy")[part] for file in (name, "labels"))
    return _published("cifar10c", place, images, labels, data_dir)


def cifar10_1(place: str, *, data_dir: Path | str | None, split: str) -> Dataset:
    """``DIR/v4`` or ``DIR/v6``.

    Raises:
        InputError: files are missing or not what they should be.
    """
    folder, _, version = place.rpartition("/")
    stem = Path(folder) / f"cifar10.1_{version}"
    images, labels = (_stored("cifar10.1", Path(f"{stem}_{part}.npy")) for part in ("data", "labels"))
    return _published("cifar10.1", place, images, labels, data_dir)


def cifar10_2(place: str, *, data_dir: Path | str | None, split: str) -> Dataset:
    """``DIR``: its test set.

    Raises:
        InputError: files are missing or not what they should be.
    """
    file = Path(place) / "cifar102_test.npz"
    images, labels = (_stored("cifar10.2", file, name) for name in ("images", "labels"))
    return _published("cifar10.2", place, images, labels, data_dir)


def _parts(kind: str, place: str) -> tuple[str, str, int]:
    """What is before a corruption, the corruption and its severity."""
    spec, name, severity = ["", "", *place.rsplit("/", 2)][-3:]
    if not spec or not severity.isdecimal():
        raise InputError(f"{kind}:{place}: end it with a corruption and its severity, as /fog/3")
    refuse(name, int(severity), 3)
    return spec, name, int(severity)


def _stored(kind: str, path: Path, name: str | None = None) -> Any:
    """The array of a file, or that of this name in it."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        return stored if name is None else stored[name]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} can't be read ({error}); {kind}:DIR holds {WHERE[kind]}") from error


def _published(
    kind: str, place: str, images: np.ndarray, labels: np.ndarray, data_dir: Path | str | None
) -> Dataset:
    count = len(labels)
    fits = images.dtype == np.uint8 and images.shape == (count, 32, 32, 3) and count > 0
    if not fits or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        expected = f"uint8 [n, 32, 32, 3] and n labels from 0 to 9; it should hold {WHERE[kind]}"
        raise InputError(
            f"{kind}:{place}: {images.dtype} {list(images.shape)} and {count} labels, not {expected}"
        )
    try:
        reference = load_data("cifar10", data_dir=data_dir)
    except InputError:  # networks are recognised by the set itself
        reference = None
    about = (f"{kind}:{place}", images, 255.0, labels.astype(np.int64), 10, (), WHERE[kind])
    # As a part of itself, so that images which a corruption has made alike are all evaluated.
    return Dataset(*about, reference=reference).subset(np.arange(count))
