"""The names that ``--data`` takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.extensions import load, points_of

if TYPE_CHECKING:
    from robustbench_coded.data.dataset import Dataset

# Torch is imported when data are loaded, so that a listing of names is instant.
DATA = {
    "auto": "what the checkpoint was made for, by its metadata, else by its input and classes",
    "digits": "scikit-learn's digits, 8 x 8 grey, 10 classes, 1,157 train, 640 test; no download",
    "cifar10": "CIFAR-10, 32 x 32 colour, 10 classes, 50,000 train, 10,000 test",
    "cifar100": "CIFAR-100, 32 x 32 colour, 100 classes, 50,000 train, 10,000 test",
    "mnist": "MNIST, 28 x 28 grey, 10 classes, 60,000 train, 10,000 test",
    "fashion-mnist": "Fashion-MNIST, 28 x 28 grey, 10 classes, 60,000 train, 10,000 test",
    "npz:FILE": "x uint8 or floats in [0, 1], [n, H, W, C], [n, C, H, W] or [n, H, W]; y integers [n]",
    "imagenet:DIR": "ImageNet's validation images in folders named by WordNet ids, 1,000 classes; +list=FILE "
    "takes the images it names (WNID/IMAGE a line), +prep=BicubicRes256Crop224 scales otherwise",
    "imagenet-r:DIR": "ImageNet-R; of 1,000 logits those of its 200 classes are compared",
    "folder:DIR": "a folder of images per class, or DIR/train and DIR/test that hold such folders, or "
    "TinyImageNet as published; "
    "folder:DIR@SIZE scales the images and crops SIZE x SIZE",
}


def load_data(spec: str, *, data_dir: Path | str | None = None, split: str = "test") -> Dataset:
    """Opens the images that ``--data`` names.

    Args:
        spec: ``digits``, ``cifar10``, ``cifar100``, ``mnist``, ``fashion-mnist``, ``npz:FILE``,
            ``folder:DIR`` or ``folder:DIR@SIZE``, ``imagenet:DIR`` and its relatives, or ``KIND:PLACE`` of an
            extension; ``auto`` is resolved by :func:`data_for` before.
        data_dir: where named sets are looked for first.
        split: ``test`` or ``train``. A single file is the same set for both.
    Raises:
        InputError: unknown name, missing or wrong files; the message says what to do.
        ValueError: another split.
    """
    if split not in ("test", "train"):
        raise ValueError(f"expected split 'test' or 'train', got {split!r}")
    from robustbench_coded.data import arrays, named_sets

    kind, _, place = spec.partition(":")
    if kind == "npz" and place:
        return arrays.load_npz(Path(place))
    if kind == "folder" and place:
        from robustbench_coded.data.image_folders import load_folder

        folder, size = sized(place)
        return load_folder(Path(folder), split, size)
    if kind in ("imagenet", "imagenet-r") and place:
        from robustbench_coded.data.image_folders import load_imagenet

        return load_imagenet(kind, place, split)
    if place and kind in points_of("data"):
        return load("data", kind)(spec, data_dir=data_dir, split=split)
    if spec == "digits":
        return named_sets.load_digits(split)
    first = Path(data_dir) if data_dir else None
    if spec in named_sets.PUBLISHED:
        return named_sets.load_published(spec, split=split, data_dir=first)
    hint = did_you_mean(spec, DATA)
    if Path(spec).exists():
        hint = f"write {'folder' if Path(spec).is_dir() else 'npz'}:{spec}; "
    raise InputError(f"unknown data {spec!r}; {hint}known: {', '.join(DATA)}")


def sized(place: str) -> tuple[str, int | None]:
    """``DIR@SIZE`` as a folder and a size; a folder whose name ends so is taken as it is."""
    folder, at, size = place.rpartition("@")
    if not at or not size.isdecimal() or Path(place).is_dir():
        return place, None
    if not 4 <= int(size) <= 4096:
        raise InputError(f"folder:{place}: give a size from 4 to 4096 pixels")
    return folder, int(size)


def data_for(metadata: Mapping[str, Any], classes: int, channels: int, image_size: int | None) -> str:
    """The data set that ``auto`` selects for a checkpoint: a name for :func:`load_data`.

    Args:
        metadata: the checkpoint's; its ``data`` is believed.
        classes: number of the network's outputs.
        channels: number of its input channels.
        image_size: side of the square images it takes; None where any size will do.
    Raises:
        InputError: nothing known fits.
    """
    stored = metadata.get("data")
    if stored:
        return str(stored)
    known = {
        (1, 10): {8: "digits", 28: "mnist"},
        (3, 10): {32: "cifar10"},
        (3, 100): {32: "cifar100"},
    }.get((channels, classes), {})
    # A network that takes any size is one for the first.
    name = next(iter(known.values()), None) if image_size is None else known.get(image_size)
    if name is None:
        size_of_images = f" at {image_size} x {image_size}" if image_size else ""
        raise InputError(
            f"no data known for {channels} channels and {classes} classes{size_of_images}; "
            f"say which with --data (npz:FILE, folder:DIR, imagenet:DIR or a name)"
        )
    return name
