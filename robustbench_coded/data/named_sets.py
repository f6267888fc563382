"""CIFAR, MNIST, Fashion-MNIST and scikit-learn's digits: found in folders, or downloaded by torchvision."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustbench_coded.data.arrays import load_npz
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError

_TIMEOUT = 20.0  # seconds without an answer


def search_path(data_dir: Path | None) -> tuple[list[Path], Path]:
    """The folders that are searched, in order: those that the user names, then where scripts put data; and
    where downloads go: the first that the user names, else this project's cache.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own = caches / "csrobust"
    named = [Path(place) for place in (data_dir, os.environ.get("CSROBUST_DATA")) if place]
    places = [*named, Path("data"), Path("..", "data"), own, caches, caches / "torch", Path.home() / "data"]
    return places, [*named, own][0]


def download(
    name: str, torchvision_class: str, folder: str, target: Path, places: list[Path], by_hand: str
) -> None:
    """Puts torchvision's copy into ``target``, whole or not at all.

    Args:
        name: of the data, for messages.
        torchvision_class: its reader in ``torchvision.datasets``.
        folder: what the reader makes.
        target: a folder, made where it is missing.
        places: where the data were looked for.
        by_hand: what to put into one of them instead, in words.
    Raises:
        InputError: the download failed.
    """
    import torchvision.datasets

    reader = getattr(torchvision.datasets, torchvision_class)
    is_new = not target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=target, prefix=f".{name}-") as aside,
            _timeout(_TIMEOUT),
            contextlib.redirect_stderr(io.StringIO()),  # a progress bar that would break the one-line message
            contextlib.redirect_stdout(io.StringIO()),
        ):
            reader(root=aside, download=True)
            shutil.move(Path(aside) / folder, target / folder)
    except (OSError, RuntimeError) as error:
        if is_new:
            with contextlib.suppress(OSError):
                target.rmdir()
        looked = ", ".join(str(place) for place in places)
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name}: not found in {looked}, and the download failed ({reason}); "
            f"put {by_hand} into one of them, or name their folder with --data-dir DIR or $CSROBUST_DATA"
        ) from error


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@dataclass(frozen=True)
class _Published:
    """A data set as torchvision downloads it.

    Attributes:
        title: in reports.
        reader: its class in ``torchvision.datasets``.
        folders: where its files may lie, torchvision's own first.
        classes: number of classes.
    """

    title: str
    reader: str
    folders: tuple[str, ...]
    classes: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """Numbers."""
        return tuple(map(str, range(self.classes)))


PUBLISHED = {
    "cifar10": _Published("CIFAR-10", "CIFAR10", ("cifar-10-batches-py",), 10),
    "cifar100": _Published("CIFAR-100", "CIFAR100", ("cifar-100-python",), 100),
    "mnist": _Published("MNIST", "MNIST", ("MNIST/raw", "mnist"), 10),
    "fashion-mnist": _Published("Fashion-MNIST", "FashionMNIST", ("FashionMNIST/raw", "fashion-mnist"), 10),
}
_STEMS = {"test": "t10k", "train": "train"}
_IDX = ("images-idx3", "labels-idx1")


def load_published(name: str, *, split: str, data_dir: Path | None = None) -> Dataset:
    """Reads a set of :data:`PUBLISHED`, ``split`` ``train`` or ``test``, in the order of its files.

    Looks in the folders of `search_path`: for CIFAR's in each for torchvision's folder and then for
    ``NAME_SPLIT.npz``, for MNIST's for torchvision's folder or one of the data's name. Downloads
    torchvision's copy where there is none.

    Raises:
        InputError: the files found are damaged, or none were found and the download failed.
    """
    published, (places, target) = PUBLISHED[name], search_path(data_dir)
    look = _mnist_in if name.endswith("mnist") else _cifar_in
    for place in places:
        if (data := look(name, split, place)) is not None:
            return data
    folder = published.folders[0]
    by_hand = f"{name}_{split}.npz (x uint8 [n, 32, 32, 3], y int64 [n]) or torchvision's {folder}"
    if look is _mnist_in:
        by_hand = f"{', '.join(f'{_STEMS[split]}-{kind}-ubyte.gz' for kind in _IDX)} in {name}/"
    download(name, published.reader, folder.partition("/")[0], target, places, by_hand)
    if (data := look(name, split, target)) is None:
        raise InputError(f"{target / folder}: the download left no {split} images; put {by_hand} there")
    return data


def _cifar_in(name: str, split: str, place: Path) -> Dataset | None:
    published, file = PUBLISHED[name], place / f"{name}_{split}.npz"
    folder = place / published.folders[0]
    if not folder.is_dir():
        return load_npz(file, name=name, class_names=published.class_names) if file.is_file() else None
    import torchvision.datasets

    try:
        # torchvision compares checksums before it unpickles anything.
        reader = getattr(torchvision.datasets, published.reader)
        stored = reader(root=place, train=split == "train", download=False)
    except RuntimeError as error:
        raise InputError(
            f"{folder}: incomplete or altered {published.title} files; "
            f"remove the folder or put the original files there"
        ) from error
    images, labels = stored.data, np.array(stored.targets, dtype=np.int64)
    return _dataset(name, images, labels, f"{split} images, torchvision's files")


def _dataset(name: str, images: np.ndarray, labels: np.ndarray, source: str) -> Dataset:
    names = PUBLISHED[name].class_names
    return Dataset(name, images, 255.0, labels, len(names), names, f"{PUBLISHED[name].title} {source}")


MAX_IMAGES = 200_000
# Of each kind of file: how it begins, the bytes of its header, and those of one image or label.
FORMATS = {_IDX[0]: (b"\x00\x00\x08\x03", 16, 28 * 28), _IDX[1]: (b"\x00\x00\x08\x01", 8, 1)}


def _mnist_in(name: str, split: str, place: Path) -> Dataset | None:
    for folder in PUBLISHED[name].folders:  # the two data sets' files have the same names
        stems = (place / folder / f"{_STEMS[split]}-{kind}-ubyte" for kind in _IDX)
        files = [stem if stem.is_file() else stem.with_suffix(".gz") for stem in stems]
        if all(file.is_file() for file in files):
            break
    else:
        return None
    images, labels = (_bytes(file, kind) for file, kind in zip(files, _IDX, strict=True))
    images = images.reshape(-1, 28, 28, 1)
    if len(images) != len(labels) or not len(images):
        raise InputError(f"{files[1]}: {len(labels)} labels for the {len(images)} images of {files[0].name}")
    if labels.max() > 9:
        raise InputError(f"{files[1]}: label {labels.max()} is out of range; labels are 0 to 9")
    return _dataset(name, images, labels.astype(np.int64), f"{split} images, the published files")


def _bytes(file: Path, kind: str) -> np.ndarray:
    """All that follows the header, [n]; what is not whole images or labels is refused."""
    begins, header, size = FORMATS[kind]
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            data = stream.read(header + MAX_IMAGES * size)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read ({error}); put the published file there") from None
    count = int.from_bytes(data[4:8], "big")
    if not data.startswith(begins) or len(data) != header + count * size:
        raise InputError(f"{file}: damaged, or not the published {kind}; put the published file there")
    return np.frombuffer(data, np.uint8, offset=header)


TRAIN_SIZE = 1157  # the other 640 are five test batches of 128


def load_digits(split: str) -> Dataset:
    """The first 1,157 (``train``) or last 640 (``test``) images of a fixed permutation.

    The package brings all 1,797: UCI's optical digits (CC BY 4.0) as in scikit-learn, pixels 0 to 16.
    """
    with np.load(Path(__file__).with_name("digits.npz")) as stored:
        images, labels = stored["images"], stored["labels"]  # [1797, 8, 8] and [1797], uint8
    # RandomState's stream is frozen by numpy's compatibility policy; default_rng's is not.
    order = np.random.RandomState(0).permutation(len(images))
    rows = order[:TRAIN_SIZE] if split == "train" else order[TRAIN_SIZE:]
    return Dataset(
        name="digits",
        images=images[rows, ..., None],
        scale=16.0,
        labels=labels[rows].astype(np.int64),
        classes=10,
        class_names=tuple("0123456789"),
        source=f"scikit-learn's digits, {split} split of a fixed permutation",
    )
