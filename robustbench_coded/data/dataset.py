"""A data set: images in [0, 1] with labels and names of classes; its grey levels, and stratified subsets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.errors import InputError

IMAGENET_CLASSES, WORDNET_ID = 1000, re.compile(r"n\d{8}")

_HASH_BYTES = 2**24  # read at a time where all images pass by once


class Images(Protocol):
    """``[n, H, W, C]`` pixels read by row number: an array in memory, or files decoded on access."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """n labelled images.

    Attributes:
        name: as asked for: ``digits``, ``cifar10``, ``npz:FILE``, ``folder:DIR``.
        images: ``[n, H, W, C]``, C 1 or 3, uint8 or float32.
        scale: the pixel value that means 1.0 (255; 16 for digits; 1 for floats).
        labels: ``[n]`` int64, from 0 to ``classes`` - 1.
        classes: number of classes, at least 2.
        class_names: one name a class, or empty where there are no names, as labels are the network's outputs.
        source: where the images came from, in words, for reports.
        outputs: for data of some of a network's classes, the output that each class has; None where classes
            and outputs are the same.
        numbers: ``[n]``, which image of the set that these were taken from each one is; None where they are
            not part of another set.
        notes: what the user may not have meant, a sentence each.
        reference: of images that are not distributed like training data, those by which networks are
            recognised; None where they are these.
    """

    name: str
    images: Images
    scale: float
    labels: np.ndarray
    classes: int
    class_names: tuple[str, ...]
    source: str
    outputs: tuple[int, ...] | None = None
    numbers: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    reference: Dataset | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W), the order of a batch."""
        height, width, channels = self.images.shape[1:]
        return channels, height, width

    def batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels of the given rows: x float32 ``[k, C, H, W]`` in [0, 1], y int64 ``[k]``."""
        rows = np.asarray(indices, dtype=np.int64)
        # In order: strides of grey images in another one can be read as channels last, where view() fails.
        pixels = torch.from_numpy(self.images[rows].transpose(0, 3, 1, 2).copy(order="C"))
        return pixels.to(torch.float32).div_(self.scale), torch.from_numpy(self.labels[rows])

    def subset(self, rows: np.ndarray) -> Dataset:
        """The images of these rows, in this order."""
        whole = self.images
        taken = _Rows(whole.images, whole.rows[rows]) if isinstance(whole, _Rows) else _Rows(whole, rows)
        return replace(self, images=taken, labels=self.labels[rows], numbers=rows)

    def of_all_classes(self, classes: int) -> Dataset:
        """The same images with labels as a network of ``classes`` outputs has them.

        Where data and outputs are the same, or the network has been made for these data, it is this one. Of
        classes without names (arrays, folders named by numbers) any may be missing.

        Raises:
            InputError: the network has another number of outputs, or labels begin at 1.
        """
        if self.labels.min() == 1 and self.labels.max() == classes:
            message = f"labels go from 1 to {classes}, and the network's {classes} classes begin at 0"
            raise InputError(f"{self.name}: {message}; give y - 1, or name folders from 0")
        if not self.class_names and self.outputs is None and self.classes < classes:
            return replace(self, classes=classes)
        if classes == self.classes:
            return self
        if classes <= max(self.outputs or (classes,)):
            mend = "choose the data it was trained on with --data"
            kind, _, folder = re.sub(r"@\d+$", "", self.name).partition(":")
            named = (*self.class_names, "")[0]
            if kind == "folder" and classes == IMAGENET_CLASSES and WORDNET_ID.fullmatch(named):
                mend = f"write --data imagenet:{folder}, which numbers its WordNet ids"
            elif kind == "folder":
                mend = f"name folders by the network's outputs, 0 to {classes - 1}, or {mend}"
            message = f"it has {self.classes} classes, and the network answers {classes}"
            raise InputError(f"{self.name}: {message}; {mend}")
        labels = np.array(self.outputs, dtype=np.int64)[self.labels]
        return replace(self, labels=labels, classes=classes, class_names=(), outputs=None)

    def in_order_of(self, names: Mapping[int, str]) -> Dataset:
        """The same images with labels as a network numbers these names of its outputs; itself where a class
        has none of them.
        """
        number = {name: output for output, name in names.items()}
        if not self.class_names or not number.keys() >= {*self.class_names}:
            return self
        labels = np.array([number[name] for name in self.class_names])[self.labels]
        return replace(self, labels=labels, classes=len(names), class_names=(*number,))

    @cached_property
    def distinct(self) -> np.ndarray:
        """Rows of the images without those that repeat an earlier one, label included; increasing.

        A sampler with replacement and images that were copied repeat what is there: as further images they
        would only make intervals too narrow.
        """
        if isinstance(self.images, np.ndarray):
            contents = (hashlib.blake2b(image.tobytes()).digest() for image in self.images)
        elif hasattr(self.images, "contents"):  # files, whose pixels take long to read
            contents = self.images.contents(self.labels)
        else:
            return np.arange(len(self))
        first: dict[tuple[object, int], int] = {}
        for row, content in enumerate(zip(contents, self.labels.tolist(), strict=True)):
            first.setdefault(content, row)
        return np.array([*first.values()])

    @property
    def sha256(self) -> str:
        """Digest of shape, scale, pixels and labels: equal for equal data wherever they came from."""
        return self._digests[0]

    @property
    def each_digest(self) -> str:
        """8 hexadecimal digits for each image with its label, whatever type its pixels are stored in."""
        return self._digests[1]

    @cached_property
    def _digests(self) -> tuple[str, str]:
        """Both, because reading images may take long."""
        each: list[str] = []
        digest = hashlib.sha256(f"{len(self)} {self.image_shape} {self.scale:g}".encode())
        chunk = max(1, _HASH_BYTES // (int(np.prod(self.image_shape)) * (4 if self.scale == 1.0 else 1)))
        for start in range(0, len(self), chunk):
            rows = np.arange(start, min(start + chunk, len(self)))
            pixels = np.ascontiguousarray(self.images[rows])
            digest.update(pixels.tobytes())
            values = torch.from_numpy(pixels).to(torch.float32).div_(self.scale).numpy()
            for value, label in zip(values, self.labels[rows].tolist()):
                content = f"{self.image_shape} {label} ".encode() + value.tobytes()
                each.append(hashlib.blake2b(content, digest_size=4).hexdigest())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest(), "".join(each)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows of other images, without copying them."""

    images: Images
    rows: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.images.shape[1:])

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        return self.images[self.rows[rows]]


LOOKED_AT = 64  # images, spread over the set
MOST = 255
NEAR = 1e-4  # of a level: pixels are in float32, and files may have been written with fewer digits


def _spread(data: Dataset) -> np.ndarray:
    """Pixels in [0, 1] of some of the images."""
    chosen = np.unique(np.linspace(0, len(data) - 1, min(LOOKED_AT, len(data))).astype(np.int64))
    return data.batch(chosen)[0].numpy()


def darkness_of(data: Dataset) -> str:
    """A sentence where no pixel is half as bright as white: perhaps a value below it was meant to be."""
    most = float(_spread(data).max())
    if not 0 < most < 0.5:
        return ""
    brightest = f"the brightest pixel is {most * data.scale:.3g}, and {data.scale:g} is taken for white"
    return f"{data.name}: {brightest}; divide by {most * data.scale:.3g} where that is white"


def levels_of(data: Dataset) -> int | None:
    """The smallest L up to 255 for which every pixel is a multiple of 1/L; None where there is no such L."""
    pixels = np.unique(_spread(data)).astype(np.float64)
    if len(pixels) > MOST + 1:
        return None
    for levels in range(1, MOST + 1):
        scaled = pixels * levels
        if np.abs(scaled - scaled.round()).max() <= NEAR:
            return levels
    return None


def stratified_rows(labels: np.ndarray, count: int, generator: torch.Generator) -> np.ndarray:
    """``count`` different rows of labels ``[n]``, in random order, so that batches of them are random ones.

    Of classes with equal remainders those that get one image more are drawn at random.

    Raises:
        ValueError: ``count`` is not between 0 and n.
    """
    total = len(labels)
    if not 0 <= count <= total:
        raise ValueError(f"expected a count from 0 to {total}, got {count}")
    member, sizes = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    quota, remainder = np.divmod(count * sizes, max(total, 1))
    tie = torch.randperm(len(sizes), generator=generator).numpy()
    quota[np.lexsort((tie, -remainder))[: count - quota.sum()]] += 1
    order = torch.randperm(total, generator=generator).numpy()
    taken = np.zeros(total, dtype=bool)
    for number, size in enumerate(quota):
        taken[order[member[order] == number][:size]] = True
    return order[taken[order]]
