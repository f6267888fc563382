"""All sets one behind the other as a single data set, so that the engine evaluates them in one run.

    block 0: the n images of the first set, filled up to whole batches; block 1: those of the second; ...

Every block begins with a new batch: a batch never holds images of two sets, as it would in use. What fills a
block up is its own beginning, answered and never counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robustbench_coded.data.dataset import Dataset, Images
from robustbench_coded.errors import InputError
from robustbench_coded.shift.facts import block_starts
from robustbench_coded.shift.sets import ShiftSet


class Blocks:
    """The images of all blocks, by their place in the whole.

    Args:
        sets: the images of each block and the rows taken of them.
        k: size of a batch.
    """

    def __init__(self, sets: Sequence[tuple[Images, np.ndarray]], k: int):
        self._sets = tuple(sets)
        self._starts = block_starts([len(rows) for _, rows in sets], k)

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self._starts[-1]), *self._sets[0][0].shape[1:])

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray:
        """Images [len(places), H, W, C] of these places."""
        block = np.searchsorted(self._starts, places, side="right") - 1
        found = None
        for number in np.unique(block):
            here = block == number
            images, rows = self._sets[number]
            pixels = images[rows[(places[here] - self._starts[number]) % len(rows)]]
            if found is None:
                found = np.empty((len(places), *pixels.shape[1:]), dtype=pixels.dtype)
            found[here] = pixels
        return np.empty((0, *self.shape[1:]), dtype=np.uint8) if found is None else found


def as_dataset(sets: Sequence[ShiftSet], k: int, *, classes: int, scale: float, like: Dataset) -> Dataset:
    """The sets as one data set.

    Raises:
        InputError: sets of images of different shapes.
    """
    shapes = {one.collection: tuple(one.images.shape[1:]) for one in sets}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items())
        raise InputError(f"the images have different shapes ({told}); evaluate them one after the other")
    labels = [one.labels[np.arange(-(-len(one) // k) * k) % len(one)] for one in sets]
    return Dataset(
        name="+".join(dict.fromkeys(one.collection for one in sets)),
        images=Blocks([(one.images, one.rows) for one in sets], k),
        scale=scale,
        labels=np.concatenate(labels).astype(np.int64),
        classes=classes,
        class_names=like.class_names,
        source=f"{len(sets)} sets one behind the other",
        outputs=like.outputs,
    )
