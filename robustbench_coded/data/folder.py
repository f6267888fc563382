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


def load_folder(root: Path, split: str = "test", size: int | None = None) -> Dataset:
    """Reads ``root/CLASS/.../IMAGE``, or ``root/SPLIT/CLASS/.../IMAGE`` where the split has a folder.

    Classes are numbered in the order of their names. Images come in the order of the SHA-256 of
    ``CLASS/.../IMAGE``: a shuffle that no file system, random generator or later addition changes. They are
    decoded when a batch asks for them.

    Args:
        root: the folder.
        split: ``test`` (``test``, ``val`` or ``valid``) or ``train``.
        size: scales the shorter side of each image to 8/7 of this and cuts ``size`` x ``size`` out of the
            middle, as is usual for ImageNet (256 and 224); None takes the images as they are.
    Raises:
        InputError: no such folder, fewer than two classes, a class without images; when decoding: a damaged
            image, images of different sizes.
    """
    root = _split_folder(root, split)
    files, class_names = _list(root)
    order = sorted(range(len(files)), key=lambda i: _key(files[i][0].relative_to(root)))
    paths = [files[i][0] for i in order]
    labels = np.array([files[i][1] for i in order], dtype=np.int64)
    scaled = f", scaled and cropped to {size} x {size}" if size else ""
    return Dataset(
        name=f"folder:{root}@{size}" if size else f"folder:{root}",
        images=FolderImages(paths, size),
        scale=255.0,
        labels=labels,
        classes=len(class_names),
        class_names=class_names,
        source=f"folder {root.name}, {len(paths)} images of {len(class_names)} classes, fixed order{scaled}",
    )


def _split_folder(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one with a folder of images per class")
    for name in _SPLIT_FOLDERS[split]:
        # A class may be called "train" too; then it holds images.
        if (root / name).is_dir() and not any(map(_is_image, (root / name).iterdir())):
            return root / name
    return root


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _list(root: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """Every image with its class number, and the classes' names."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise InputError(f"{root}: has {len(folders)} folders; expected one of images per class, 2 or more")
    files: list[tuple[Path, int]] = []
    for number, folder in enumerate(folders):
        found = sorted(filter(_is_image, folder.rglob("*")))
        if not found:
            raise InputError(
                f"{folder}: no images ({', '.join(sorted(SUFFIXES))}); every class needs at least one"
            )
        files += [(path, number) for path in found]
    return files, tuple(folder.name for folder in folders)


def _key(path: Path) -> bytes:
    return hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).digest()


class FolderImages:
    """``[n, H, W, C]`` uint8 pixels of image files, decoded when read; all of one size."""

    def __init__(self, paths: Sequence[Path], size: int | None = None):
        self._paths = list(paths)
        self._scaled_to = size
        with _open(paths[0]) as first:
            self._size = (size, size) if size else first.size  # (width, height), as Pillow has it
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
            if not self._scaled_to and image.size != self._size:
                raise InputError(
                    f"{path}: is {image.height} x {image.width}, the first image is {height} x {width}; "
                    f"give folder:DIR@SIZE to scale and crop all of them"
                )
            if self._grey and image.mode not in _GREY_MODES:
                raise InputError(
                    f"{path}: is coloured ({image.mode}), the first images are grey; convert them to one"
                )
            try:
                pixels = image.convert("L" if self._grey else "RGB")
            except (OSError, SyntaxError, ValueError) as error:
                raise InputError(f"{path}: damaged image ({error}); replace or remove it") from error
        if self._scaled_to:
            pixels = _scaled_and_cropped(pixels, self._scaled_to)
        return np.asarray(pixels).reshape(height, width, -1)


def _scaled_and_cropped(image: Image.Image, size: int) -> Image.Image:
    factor = round(size * 8 / 7) / min(image.size)
    width, height = (max(size, round(side * factor)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + size, top + size))


def _mode(path: Path) -> str:
    with _open(path) as image:
        return image.mode


def _open(path: Path) -> Image.Image:
    """Reads the header alone; the pixels are decoded later."""
    try:
        return Image.open(path)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image ({error}); replace or remove it") from error
