"""Sets of images under shift: corrupted here, published as files, and all of them one behind the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_coded.data.dataset import Dataset, Images, stratified_rows
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.paper.shift.corruptions import SEVERITIES, corrupt

CLEAN = "clean"
CIFAR10C_IMAGES = 10_000
WHERE = {
    "cifar10c": "CIFAR-10-C of Hendrycks and Dietterich (Zenodo 2535967), unpacked: fog.npy ... labels.npy",
    "cifar10.1": "cifar10.1_v4_data.npy, cifar10.1_v4_labels.npy, or v6, of the CIFAR-10.1 repository",
    "cifar10.2": "cifar102_test.npz (images, labels) of the CIFAR-10.2 repository",
}


@dataclass(frozen=True, eq=False)
class ShiftSet:
    """Labelled images of one kind.

    Attributes:
        collection: what it belongs to, as tables name it: ``CIFAR-10-C (ours)``, ``CIFAR-10.1`` ...
        name: ``clean``, a corruption, or a version (``v6``).
        severity: 1 to 5; 0 where there is none.
        images: uint8 [n, H, W, C].
        labels: int64 [n].
    """

    collection: str
    name: str
    severity: int
    images: Images
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def corrupted_sets(
    collection: str, data: Dataset, names: Sequence[str], severities: Sequence[int], seed: int
) -> list[ShiftSet]:
    """The images of ``data`` as they are, and under every corruption at every severity.

    Their numbers in the set that they were taken from and ``seed`` name the random numbers of each image.
    """
    images = data.images[np.arange(len(data))]
    if data.scale != 255.0 or images.dtype != np.uint8:
        images = np.round(images.astype(np.float64) * (255.0 / data.scale)).astype(np.uint8)
    numbers = np.arange(len(data)) if data.numbers is None else data.numbers
    sets = [ShiftSet(collection, CLEAN, 0, images, data.labels)]
    for name in names:
        for severity in severities:
            made = corrupt(images, numbers, name, severity, seed)
            sets.append(ShiftSet(collection, name, severity, made, data.labels))
    return sets


def published_sets(
    kind: str, folder: Path, corruptions: Sequence[str], severities: Sequence[int], *, limit: int | None,
    first: bool, seed: int,
) -> list[ShiftSet]:  # fmt: skip
    """The sets of ``KIND:DIR``.

    Args:
        limit: images of each set; None for all. first: the first ones, not random ones of every class. Of
            CIFAR-10-C the same images are taken of every corruption.

    Raises:
        InputError: files are missing or not what they should be; the message says which to get.
    """
    if not folder.is_dir():
        raise InputError(f"{kind}:{folder}: no such folder; it should hold {WHERE[kind]}")
    sets: list[ShiftSet] = []
    if kind == "cifar10c":
        for name in corruptions:
            if not (path := folder / f"{name}.npy").is_file():
                continue
            count = CIFAR10C_IMAGES * len(SEVERITIES)
            images = _images(path, _loaded(path), count)
            labels = _labels(path := folder / "labels.npy", _loaded(path), count)[:CIFAR10C_IMAGES]
            for severity in severities:
                part = images[(severity - 1) * CIFAR10C_IMAGES : severity * CIFAR10C_IMAGES]
                sets.append(ShiftSet("CIFAR-10-C (published)", name, severity, part, labels))
    elif kind == "cifar10.1":
        for version in ("v4", "v6"):
            if (path := folder / f"cifar10.1_{version}_data.npy").is_file():
                images = _images(path, _loaded(path))
                labels = _labels(
                    path := folder / f"cifar10.1_{version}_labels.npy", _loaded(path), len(images)
                )
                sets.append(ShiftSet("CIFAR-10.1", version, 0, images, labels))
    elif (path := folder / "cifar102_test.npz").is_file():
        try:
            with _loaded(path) as file:
                images, labels = file["images"], file["labels"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} can't be read ({error}); expected {WHERE['cifar10.2']}") from error
        labels = _labels(path, labels, len(_images(path, images)))
        sets.append(ShiftSet("CIFAR-10.2", "test", 0, images, labels))
    if not sets:
        raise InputError(f"{kind}:{folder}: nothing to evaluate there; it should hold {WHERE[kind]}")
    return [_part(shift, limit, first, seed) for shift in sets]


def _part(s: ShiftSet, limit: int | None, first: bool, seed: int) -> ShiftSet:
    if limit is None or limit >= len(s):
        return s
    rows = np.arange(limit) if first else stratified_rows(s.labels, limit, stream(seed, -1, "examples"))
    return ShiftSet(s.collection, s.name, s.severity, s.images[rows], s.labels[rows])


def _loaded(path: Path) -> Any:
    """What numpy.save or numpy.savez wrote, not read yet."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read ({error}); download it again") from error


def _images(path: Path, images: np.ndarray, count: int | None = None) -> np.ndarray:
    fits = images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3)
    if not fits or len(images) == 0 or count not in (None, len(images)):
        expected = f"uint8 [{count or 'n'}, 32, 32, 3]"
        raise InputError(f"{path}: expected {expected}, got {images.dtype} {list(images.shape)}")
    return images


def _labels(path: Path, labels: np.ndarray, count: int) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.shape != (count,) or labels.min() < 0 or labels.max() > 9:
        raise InputError(
            f"{path}: expected {count} labels from 0 to 9, got {labels.dtype} {list(labels.shape)}"
        )
    return labels.astype(np.int64)


# All sets one behind the other as a single data set, so that the engine evaluates them in one run.
#
#     block 0: the n images of the first set, filled up to whole batches; block 1: those of the second; ...
#
# Every block begins with a new batch: a batch never holds images of two sets, as it would in use. What fills
# a block up is its own beginning, answered and never counted.


def block_starts(sizes: Sequence[int], k: int) -> np.ndarray:
    """[blocks + 1]: where each block begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum([-(-size // k) * k for size in sizes])])


class SetBlocks:
    """The images of all blocks, by their place in the whole.

    Args:
        sets: of each block.
        k: size of a batch.
    """

    def __init__(self, sets: Sequence[ShiftSet], k: int):
        self._sets = tuple((shift.images, len(shift)) for shift in sets)
        self._starts = block_starts([len(shift) for shift in sets], k)

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self._starts[-1]), *self._sets[0][0].shape[1:])

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray:
        """Images [len(places), H, W, C] of these places."""
        block = np.searchsorted(self._starts, places, side="right") - 1
        stack = np.empty((len(places), *self.shape[1:]), dtype=np.uint8)
        for number in np.unique(block):
            images, size = self._sets[number]
            here = block == number
            stack[here] = images[(places[here] - self._starts[number]) % size]
        return stack
