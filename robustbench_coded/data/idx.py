"""MNIST and Fashion-MNIST: the published idx files, plain or compressed; downloaded where there are none."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.download import download, search_path
from robustbench_coded.errors import InputError

# What the first four bytes say: unsigned bytes in so many dimensions.
MAGIC = {3: b"\x00\x00\x08\x03", 1: b"\x00\x00\x08\x01"}
SIDE = 28
MAX_IMAGES = 200_000

_FASHION = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)


@dataclass(frozen=True)
class _Variant:
    title: str
    folders: tuple[str, ...]  # torchvision's first
    torchvision_class: str
    class_names: tuple[str, ...]


VARIANTS = {
    "mnist": _Variant("MNIST", ("MNIST/raw", "mnist"), "MNIST", tuple("0123456789")),
    "fashion-mnist": _Variant(
        "Fashion-MNIST", ("FashionMNIST/raw", "fashion-mnist", "fashion_mnist"), "FashionMNIST", _FASHION
    ),
}
_STEMS = {"test": "t10k", "train": "train"}


def load_idx(name: str, *, split: str, data_dir: Path | None = None) -> Dataset:
    """Reads ``mnist`` or ``fashion-mnist``, ``split`` ``train`` or ``test``, in the order of the files.

    Looks in ``data_dir``, ``$CSROBUST_DATA`` and the user's cache folder, in each for torchvision's folder
    (``MNIST/raw``), for one of the data's name, or for being one of these itself; else downloads
    torchvision's copy.

    Raises:
        InputError: the files found are damaged, or none were found and the download failed.
    """
    variant = VARIANTS[name]
    places = search_path(data_dir)
    for place in places:
        # The two data sets' files have the same names: a folder says which it holds, or its parent.
        names = {name, *(folder.partition("/")[0].lower() for folder in variant.folders)}
        own = (place, place / "raw") if place.name.lower() in names else ()
        raw = (place,) if place.name == "raw" and place.absolute().parent.name.lower() in names else ()
        for folder in (*(place / folder for folder in variant.folders), *own, *raw):
            found = _files(folder, split)
            if found is not None:
                return _read(name, split, *found)
    files = ", ".join(f"{_STEMS[split]}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    download(
        name, variant.torchvision_class, variant.folders[0].partition("/")[0], places, f"{files} in {name}/"
    )
    found = _files(places[0] / variant.folders[0], split)
    if found is None:
        raise InputError(f"{places[0] / variant.folders[0]}: the download left no {files}")
    return _read(name, split, *found)


def _files(folder: Path, split: str) -> tuple[Path, Path] | None:
    """The images and the labels of a split; None where one is missing."""
    found = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        names = (f"{_STEMS[split]}-{kind}", f"{_STEMS[split]}-{kind}.gz")
        file = next((folder / name for name in names if (folder / name).is_file()), None)
        if file is None:
            return None
        found.append(file)
    return found[0], found[1]


def _read(name: str, split: str, image_file: Path, label_file: Path) -> Dataset:
    variant = VARIANTS[name]
    images, labels = _array(image_file, 3), _array(label_file, 1)
    if images.shape[1:] != (SIDE, SIDE):
        raise InputError(
            f"{image_file}: expected images of 28 x 28, got {images.shape[1]} x {images.shape[2]}"
        )
    if len(images) != len(labels) or not len(images):
        raise InputError(
            f"{label_file}: {len(labels)} labels for the {len(images)} images of {image_file.name}"
        )
    if labels.max() > 9:
        raise InputError(f"{label_file}: label {labels.max()} is out of range; labels are 0 to 9")
    return Dataset(
        name=name,
        images=images[..., None],
        scale=255.0,
        labels=labels.astype(np.int64),
        classes=10,
        class_names=variant.class_names,
        source=f"{variant.title} {split} images, the published files",
    )


def _array(file: Path, dimensions: int) -> np.ndarray:
    limit = MAX_IMAGES * (SIDE * SIDE if dimensions == 3 else 1) + 16
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            data = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read ({error}); put the published file there") from None
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4))
    if data[:4] != MAGIC[dimensions] or len(data) < header:
        raise InputError(f"{file}: not an idx file of {dimensions} dimensions; put the published file there")
    size = 1
    for side in shape:
        size *= side
    if len(data) != header + size:
        raise InputError(f"{file}: its header promises {size} bytes, it holds {len(data) - header}; damaged")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
