"""What a shift is evaluated on: sets of labelled images, each with a name and perhaps a severity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # data sets need torch, and a report is made without
    from robustbench_coded.data.dataset import Images

CLEAN = "clean"


@dataclass(frozen=True, eq=False)
class ShiftSet:
    """Labelled images of one kind.

    Attributes:
        collection: what it belongs to, as tables name it: ``CIFAR-10-C (ours)``, ``CIFAR-10.1`` ...
        name: ``clean``, a corruption, or a version (``v6``).
        severity: 1 to 5; 0 where there is none.
        images: ``[m, H, W, C]``, of which ``rows`` [n] are taken.
        labels: [n].
    """

    collection: str
    name: str
    severity: int
    images: Images
    rows: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def corrupted(self) -> bool:
        """Whether it is one of several that are made of the same images."""
        return self.severity > 0


class StoredArray:
    """Images of an .npy file, read when asked for; it travels to other processes as a path.

    Args:
        path: the file. start, stop: the rows that belong to the set; all without them.
    """

    def __init__(self, path: Path, start: int = 0, stop: int | None = None):
        self.path = path
        self._start, self._stop = start, stop

    @cached_property
    def _array(self) -> np.ndarray:
        return np.load(self.path, mmap_mode="r", allow_pickle=False)[self._start : self._stop]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        return self._array[rows]

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_start": self._start, "_stop": self._stop}
