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


def download_folder(data_dir: Path | None) -> Path:
    """Where downloads go: the folder that the user names, else this project's cache."""
    named = data_dir or os.environ.get("CSROBUST_DATA")
    return Path(named) if named else own_cache()


def search_path(data_dir: Path | None) -> list[Path]:
    """The folders that are searched, in order: those that the user names, then where scripts put data."""
    named = [Path(place) for place in (data_dir, os.environ.get("CSROBUST_DATA")) if place]
    caches = [own_cache(), _caches(), _caches() / "torch"]
    return [*named, Path("data"), Path("..", "data"), *caches, Path.home() / "data"]


def own_cache() -> Path:
    """This project's folder among the user's caches."""
    return _caches() / "csrobust"


def _caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


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


_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class _Published:
    title: str
    folders: tuple[str, ...]  # the name that torchvision unpacks to first
    torchvision_class: str
    class_names: tuple[str, ...]


CIFAR = {
    "cifar10": _Published("CIFAR-10", ("cifar-10-batches-py",), "CIFAR10", tuple(_CIFAR10_CLASSES.split())),
    "cifar100": _Published("CIFAR-100", ("cifar-100-python",), "CIFAR100", tuple(_CIFAR100_CLASSES.split())),
}


def load_cifar(name: str, *, split: str, data_dir: Path | None = None) -> Dataset:
    """Reads ``cifar10`` or ``cifar100``, ``split`` ``train`` or ``test``.

    Looks in the folders of `search_path`, in each for torchvision's folder and then for ``NAME_SPLIT.npz``;
    downloads torchvision's copy where there is neither. The order of the images is that of the files.

    Raises:
        InputError: the files found are damaged, or none were found and the download failed.
    """
    variant = CIFAR[name]
    places = search_path(data_dir)
    for place in places:
        if (place / variant.folders[0]).is_dir():
            return _from_torchvision(name, split, place)
        file = place / f"{name}_{split}.npz"
        if file.is_file():
            return load_npz(file, name=name, class_names=variant.class_names)
    by_hand = (
        f"{name}_{split}.npz (x uint8 [n, 32, 32, 3], y int64 [n]) or torchvision's {variant.folders[0]}"
    )
    target = download_folder(data_dir)
    download(name, variant.torchvision_class, variant.folders[0], target, places, by_hand)
    return _from_torchvision(name, split, target)


def _from_torchvision(name: str, split: str, place: Path) -> Dataset:
    import torchvision.datasets

    variant = CIFAR[name]
    reader = getattr(torchvision.datasets, variant.torchvision_class)
    try:
        # torchvision compares checksums before it unpickles anything.
        stored = reader(root=place, train=split == "train", download=False)
    except RuntimeError as error:
        raise InputError(
            f"{place / variant.folders[0]}: incomplete or altered {variant.title} files; "
            f"remove the folder or put the original files there"
        ) from error
    return Dataset(
        name=name,
        images=stored.data,
        scale=255.0,
        labels=np.array(stored.targets, dtype=np.int64),
        classes=len(variant.class_names),
        class_names=variant.class_names,
        source=f"{variant.title} {split} images, torchvision's files",
    )


MAX_IMAGES = 200_000
# Of each kind of file: how it begins, the bytes of its header, and those of one image or label.
FORMATS = {"images": (b"\x00\x00\x08\x03", 16, 28 * 28), "labels": (b"\x00\x00\x08\x01", 8, 1)}

_FASHION = "T-shirt/top trouser pullover dress coat sandal shirt sneaker bag boot"

MNIST = {
    "mnist": _Published("MNIST", ("MNIST/raw", "mnist"), "MNIST", tuple("0123456789")),
    "fashion-mnist": _Published(
        "Fashion-MNIST",
        ("FashionMNIST/raw", "fashion-mnist", "fashion_mnist"),
        "FashionMNIST",
        tuple(_FASHION.split()),
    ),
}
_STEMS = {"test": "t10k", "train": "train"}


def load_idx(name: str, *, split: str, data_dir: Path | None = None) -> Dataset:
    """Reads ``mnist`` or ``fashion-mnist``, ``split`` ``train`` or ``test``, in the order of the files.

    Looks in the folders of `search_path`, in each for torchvision's folder (``MNIST/raw``), for one of the
    data's name, or for being one of these itself; else downloads torchvision's copy.

    Raises:
        InputError: the files found are damaged, or none were found and the download failed.
    """
    variant = MNIST[name]
    places = search_path(data_dir)
    for place in places:
        # The two data sets' files have the same names: a folder says which it holds, or its parent.
        names = {name, *(folder.partition("/")[0].lower() for folder in variant.folders)}
        own = (place, place / "raw") if place.name.lower() in names else ()
        raw = (place,) if place.name == "raw" and place.absolute().parent.name.lower() in names else ()
        for folder in (*(place / folder for folder in variant.folders), *own, *raw):
            pair = _files(folder, split)
            if pair is not None:
                return _read(name, split, *pair)
    files = ", ".join(f"{_STEMS[split]}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    folder = variant.folders[0].partition("/")[0]
    target = download_folder(data_dir)
    download(name, variant.torchvision_class, folder, target, places, f"{files} in {name}/")
    pair = _files(target / variant.folders[0], split)
    if pair is None:
        raise InputError(f"{target / variant.folders[0]}: the download left no {files}")
    return _read(name, split, *pair)


def _files(folder: Path, split: str) -> tuple[Path, Path] | None:
    """The images and the labels of a split; None where one is missing."""
    stems = (folder / f"{_STEMS[split]}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
    images, labels = (stem if stem.is_file() else stem.with_suffix(".gz") for stem in stems)
    return (images, labels) if images.is_file() and labels.is_file() else None


def _read(name: str, split: str, image_file: Path, label_file: Path) -> Dataset:
    images, labels = _bytes(image_file, "images").reshape(-1, 28, 28, 1), _bytes(label_file, "labels")
    if len(images) != len(labels) or not len(images):
        raise InputError(
            f"{label_file}: {len(labels)} labels for the {len(images)} images of {image_file.name}"
        )
    if labels.max() > 9:
        raise InputError(f"{label_file}: label {labels.max()} is out of range; labels are 0 to 9")
    return Dataset(
        name=name,
        images=images,
        scale=255.0,
        labels=labels.astype(np.int64),
        classes=10,
        class_names=MNIST[name].class_names,
        source=f"{MNIST[name].title} {split} images, the published files",
    )


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
