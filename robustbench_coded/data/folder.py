"""Images from a folder that has one folder per class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_SPLIT_FOLDERS = {"test": ("test", "val", "valid"), "train": ("train",)}
_GREY_MODES = frozenset({"1", "L"})
_COLOUR_SAMPLE = 16  # grey photographs occur among coloured ones, so one image does not tell


def load_folder(root: Path, split: str = "test") -> Dataset:
    """Reads ``root/CLASS/IMAGE``, or ``root/SPLIT/CLASS/IMAGE`` where there is a folder for the split.

    Classes are numbered in the order of their names. Images come in the order of the SHA-256 of
    ``CLASS/IMAGE``: a shuffle that no file system, random generator or later addition changes. They are
    decoded when a batch asks for them.

    Raises:
        InputError: no such folder, fewer than two classes, a class without images; when decoding: a damaged
            image, images of different sizes.
    """
    root = _split_folder(root, split)
    files, class_names = _list(root)
    order = sorted(range(len(files)), key=lambda i: _key(files[i][0].relative_to(root)))
    paths = [files[i][0] for i in order]
    labels = np.array([files[i][1] for i in order], dtype=np.int64)
    return Dataset(
        name=f"folder:{root}",
        images=FolderImages(paths),
        scale=255.0,
        labels=labels,
        classes=len(class_names),
        class_names=class_names,
        source=f"folder {root.name} ({len(paths)} images in {len(class_names)} classes, fixed shuffle)",
    )


def _split_folder(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one with a folder of images per class")
    for name in _SPLIT_FOLDERS[split]:
        if (root / name).is_dir() and not _image_files(root / name):
            return root / name
    return root


def _image_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def _list(root: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """Every image with its class number, and the classes' names."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise InputError(f"{root}: has {len(folders)} folders; expected one of images per class, 2 or more")
    files: list[tuple[Path, int]] = []
    for number, folder in enumerate(folders):
        found = _image_files(folder)
        if not found:
            raise InputError(
                f"{folder}: no images ({', '.join(sorted(SUFFIXES))}); every class needs at least one"
            )
        files += [(path, number) for path in found]
    return files, tuple(folder.name for folder in folders)


def _key(path: Path) -> bytes:
    return hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).digest()


class FolderImages:
    """``[n, H, W, C]`` uint8 pixels of image files, decoded when read; all of the first one's size."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = list(paths)
        with _open(paths[0]) as first:
            self._size = first.size  # (width, height), as Pillow has it
        self._grey = all(_mode(path) in _GREY_MODES for path in self._paths[:_COLOUR_SAMPLE])

    @property
    def shape(self) -> tuple[int, ...]:
        width, height = self._size
        return (len(self._paths), height, width, 1 if self._grey else 3)

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        paths = [self._paths[row] for row in rows]
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
            return np.stack(list(pool.map(self._decode, paths)))

    def _decode(self, path: Path) -> np.ndarray:
        """Pixels [H, W, C] of one file."""
        width, height = self._size
        with _open(path) as image:
            if image.size != self._size:
                raise InputError(
                    f"{path}: is {image.height} x {image.width}, the first image is {height} x {width}; "
                    f"resize all images to one size"
                )
            if self._grey and image.mode not in _GREY_MODES:
                raise InputError(
                    f"{path}: is coloured ({image.mode}), the first images are grey; convert them to one"
                )
            try:
                pixels = np.asarray(image.convert("L" if self._grey else "RGB"))
            except (OSError, SyntaxError, ValueError) as error:
                raise InputError(f"{path}: damaged image ({error}); replace or remove it") from error
        return pixels.reshape(height, width, -1)


def _mode(path: Path) -> str:
    with _open(path) as image:
        return image.mode


def _open(path: Path) -> Image.Image:
    """Reads the header alone; the pixels are decoded later."""
    try:
        return Image.open(path)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image ({error}); replace or remove it") from error
