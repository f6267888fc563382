"""Images in files, decoded and resized on access: one folder per class, files listed by a data set, and
ImageNet's validation images and ImageNet-R, whose folders are named by WordNet ids.

``imagenet:DIR`` numbers the 1,000 classes as all trained networks do, also where some folders are missing.
``imagenet-r:DIR`` (arXiv 2006.16241; Table 5 of arXiv 2510.00253) has 200 of the classes; of a network's
1,000 logits those alone are compared.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Container, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePath, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
_LABEL = re.compile("[0-9]{1,6}")  # a folder's name; longer ones are dates and identities
_SPLITS = {"test": ("test", "val", "valid"), "train": ("train",)}
# TinyImageNet as published: labelled test images lie in one folder, and this file names their classes.
_ANNOTATIONS = Path("val", "val_annotations.txt")
_GREY_MODES = frozenset({"1", "L"})
_COLOUR_SAMPLE = 16  # grey photographs occur among coloured ones, so one image does not tell


def load_folder(root: Path, split: str = "test", size: int | None = None) -> Dataset:
    """Reads ``root/CLASS/.../IMAGE``, or ``root/SPLIT/CLASS/.../IMAGE`` where the split has a folder; of
    TinyImageNet as published, the validation images by their annotations.

    Folders that are all named by numbers are these labels; other classes are numbered in the order of their
    names. Images come in the order of the SHA-256 of ``CLASS/.../IMAGE``: a shuffle that no file system,
    random generator or later addition changes. They are decoded when a batch asks for them.

    Args:
        root: the folder.
        split: ``test`` (``test``, ``val`` or ``valid``) or ``train``.
        size: scales the shorter side of each image to 8/7 of this and cuts ``size`` x ``size`` out of the
            middle, as is usual for ImageNet (256 and 224); None takes the images as they are.
    Raises:
        InputError: no such folder, fewer than two classes, a class without images, an annotation of no class
            or without its image; when decoding: a damaged image, images of different sizes.
    """
    annotations, notes = root / _ANNOTATIONS, [""]
    if split == "test" and annotations.is_file():
        files, class_names = _annotated(annotations, split_folder(root, _SPLITS["train"], ""))
    else:
        root = split_folder(root, _SPLITS[split], "one with a folder of images per class")
        files, class_names = _list(root)
        notes = [_left_out(root, len(files))]
    files.sort(key=lambda file: fixed_order(file[0].relative_to(root)))
    paths = [path for path, _ in files]
    labels = np.array([number for _, number in files], dtype=np.int64)
    scaled = f", scaled and cropped to {size} x {size}" if size else ""
    source = f"folder {root.name}, {len(paths)} images of {len(class_names)} classes, fixed order{scaled}"
    if all(map(_LABEL.fullmatch, class_names)):
        numbers = np.array([*map(int, class_names)])
        for place in np.flatnonzero(numbers != np.arange(len(numbers)))[:1]:
            order = f"to torchvision's ImageFolder, which counts folders in the order of names, it is {place}"
            notes.append(f"{root}: folder {class_names[place]} is label {numbers[place]}; {order}")
        labels, class_names = numbers[labels], ()
    return Dataset(
        name=f"folder:{root}@{size}" if size else f"folder:{root}",
        images=ImageFiles(paths, Preprocessing(size, round(size * 8 / 7)) if size else None),
        scale=255.0,
        labels=labels,
        classes=len(class_names) or max(2, int(labels.max()) + 1),
        class_names=class_names,
        source=source,
        notes=tuple(filter(None, notes)),
    )


def split_folder(root: Path, names: Sequence[str], expected: str) -> Path:
    """The first folder of these names in ``root`` that holds folders of classes; else ``root`` itself.

    Raises:
        InputError: there is no ``root``; ``expected`` says what it is.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected {expected}")
    for name in names:
        # A class may be called "train" too; then it holds images.
        if (root / name).is_dir() and not any(map(_is_image, (root / name).iterdir())):
            return root / name
    return root


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _list(root: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """Every image with its class number, and the classes' names."""
    folders = _class_folders(root)
    if len(folders) < 2:
        raise InputError(f"{root}: has {len(folders)} folders; expected one of images per class, 2 or more")
    files: list[tuple[Path, int]] = []
    for number, folder in enumerate(folders):
        images = sorted(filter(_is_image, folder.rglob("*")))
        if not images:
            raise InputError(
                f"{folder}: no images ({', '.join(sorted(SUFFIXES))}); every class needs at least one"
            )
        files += [(path, number) for path in images]
    return files, tuple(folder.name for folder in folders)


def _left_out(root: Path, taken: int) -> str:
    """A sentence on the files in a folder and below it that are not taken; empty where all are."""
    names = [name for _, _, files in os.walk(root) for name in files if not name.startswith(".")]
    if (left := len(names) - taken) < 1:
        return ""
    return f"{root}: {left:,} files are left out; images of a class are its {', '.join(sorted(SUFFIXES))}"


def _class_folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _annotated(annotations: Path, train: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """The images that lines ``IMAGE CLASS ...`` name, with the classes of the training images."""
    class_names = tuple(folder.name for folder in _class_folders(train))
    number = {name: place for place, name in enumerate(class_names)}
    expected = f"one of the {len(class_names)} classes in {train}"
    lines = listed_images(annotations, annotations.parent / "images", number, "\t", expected)
    files = [(path, number[label]) for path, label in lines]
    if not files:
        raise InputError(f"{annotations}: names no images; put the published file there")
    return files, class_names


def listed_images(
    listing: Path, folder: Path, labels: Container[str], separator: str | None, expected: str
) -> list[tuple[Path, str]]:
    """The images of ``folder`` that lines ``IMAGE LABEL ...`` name, with their labels.

    Args:
        separator: between them; None for any spaces.
    Raises:
        InputError: a line without such an image, or with another label than is expected.
    """
    found = []
    for line, text in enumerate(listing.read_text().splitlines(), 1):
        name, label = [*text.split(separator), "", ""][:2]
        if label not in labels or not _is_image(folder / name):
            raise InputError(
                f"{listing}, line {line}: expected an image in {folder} and {expected}, found {text[:60]!r}"
            )
        found.append((folder / name, label))
    return found


def fixed_order(path: PurePath) -> bytes:
    """Sort key of images; see ``load_folder``."""
    return hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).digest()


# Decoded at once: what an image needs before it is cropped can be a hundred times what is left of it.
WORKERS = 4


class ImageFiles:
    """``[n, H, W, C]`` uint8 pixels of image files, decoded when read.

    Args:
        paths: of the files, at least one.
        prepared: what happens to a decoded image; None for nothing, where all have the size of the first.
        coloured: whether grey images get three channels, too; else where one of the first is coloured.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        prepared: Preprocessing | None = None,
        *,
        coloured: bool = False,
    ):
        self._paths = list(paths)
        self._prepared = prepared
        with _open(paths[0]) as first:
            # (width, height), as Pillow has it.
            self._size = (prepared.size, prepared.size) if prepared else first.size
        looked_at = self._paths[:_COLOUR_SAMPLE]
        self._grey = not coloured and all(_mode(path) in _GREY_MODES for path in looked_at)

    @property
    def shape(self) -> tuple[int, ...]:
        width, height = self._size
        return (len(self._paths), height, width, 1 if self._grey else 3)

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        pixels = np.empty((len(rows), *self.shape[1:]), np.uint8)
        with ThreadPoolExecutor(WORKERS) as pool:  # decoding releases the interpreter's lock
            for place, image in enumerate(pool.map(self._decode, [self._paths[row] for row in rows])):
                pixels[place] = image
        return pixels

    def contents(self, labels: np.ndarray, /) -> Iterator[Hashable]:
        """Of each file its size, and a digest if another of its label is as large: equal for equal files."""
        sizes = [*zip((path.stat().st_size for path in self._paths), labels.tolist())]
        several = Counter(sizes)
        for path, size in zip(self._paths, sizes):
            yield size if several[size] == 1 else hashlib.sha256(path.read_bytes()).digest()

    def _decode(self, path: Path) -> np.ndarray:
        """Pixels [H, W, C] of one file."""
        width, height = self._size
        with _open(path) as image:
            if not self._prepared and image.size != self._size:
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
        if self._prepared:
            pixels = self._prepared(pixels)
        return np.asarray(pixels).reshape(height, width, -1)


def _mode(path: Path) -> str:
    with _open(path) as image:
        return image.mode


def _open(path: Path) -> Image.Image:
    """Reads the header alone, and the palette; the pixels are decoded later."""
    try:
        image: Image.Image = Image.open(path)
        if image.mode == "P" and not np.ptp(np.reshape(image.getpalette() or [], (-1, 3)), axis=1).any():
            image = image.convert("L")  # as GIFs have it
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image ({error}); replace or remove it") from error
    if image.mode.startswith(("I", "F")):
        mend = "give --data npz:FILE of x / 65535: numpy.savez(FILE, x=x, y=y)"
        raise InputError(f"{path}: grey with more than 8 bits ({image.mode}), which folders have; {mend}")
    return image


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of an image before it is a network's input.

    Attributes:
        crop: height and width of what is cut out of the middle.
        resize: the shorter side is scaled to this before; None leaves the image as it is. Where nothing is
            cut, both sides are scaled to it.
        bicubic: how it is scaled; bilinear otherwise.
    """

    crop: int | None
    resize: int | None
    bicubic: bool = False

    @classmethod
    def named(cls, name: str) -> Preprocessing:
        """``Res256Crop224``, ``BicubicRes256Crop224``, ``Res224`` or ``Crop288``, as RobustBench names them.

        Raises:
            InputError: another form.
        """
        match = re.fullmatch(r"(Bicubic)?(?:Res(\d{1,4}))?(?:Crop(\d{1,4}))?", name, re.ASCII)
        if match is None or not (match[2] or match[3]) or (match[1] and not match[2]):
            raise InputError(
                f"+prep={name}: expected a form as Res256Crop224, BicubicRes256Crop224 or Crop288"
            )
        resize, crop = (int(value) if value else None for value in (match[2], match[3]))
        if min(resize or 8, crop or 8) < 8 or (resize and crop and crop > resize):
            raise InputError(f"+prep={name}: expected sizes from 8, and no crop larger than the image")
        return cls(crop, resize, bool(match[1]))

    @property
    def size(self) -> int:
        """Height and width of the result in pixels."""
        size = self.crop or self.resize
        assert size is not None
        return size

    def __str__(self) -> str:
        how = "bicubic" if self.bicubic else "bilinear"
        scaled = f"scaled to {self.resize} ({how})" if self.resize else "not scaled"
        return f"{scaled}, {self.crop} x {self.crop} cut from the middle" if self.crop else scaled

    def __call__(self, image: Image.Image) -> Image.Image:
        from torchvision.transforms import functional as transforms

        how = transforms.InterpolationMode.BICUBIC if self.bicubic else transforms.InterpolationMode.BILINEAR
        if self.resize is not None:
            # One number scales the shorter side, two scale both.
            size = [self.resize] if self.crop else [self.resize, self.resize]
            image = transforms.resize(image, size, interpolation=how)
        return transforms.center_crop(image, [self.crop, self.crop]) if self.crop else image


_EXPECTED = {
    "imagenet": "ImageNet's validation images",
    "imagenet-r": "ImageNet-R, imagenet-r.tar unpacked",
}
_SUBSET_CLASSES = 200
_IMAGENET_SPLITS = {"test": ("val", "validation", "test"), "train": ("train",)}
_OPTION = re.compile(r"\+(list|prep)=([^+]*)$")


@cache
def wnids() -> tuple[str, ...]:
    """The WordNet ids of the 1,000 classes, in the order of the networks' outputs."""
    text = resources.files("robustbench_coded.data").joinpath("imagenet_wnids.txt").read_text("ascii")
    return tuple(text.split())


def load_imagenet(name: str, place: str, split: str) -> Dataset:
    """Reads ``DIR/WNID/IMAGE``, or ``DIR/val/WNID/IMAGE``.

    Args:
        name: ``imagenet`` or ``imagenet-r``.
        place: the folder, and behind it perhaps ``+list=FILE``, whose lines ``WNID/IMAGE`` are the images in
            their order, and ``+prep=HOW``, a name as :meth:`Preprocessing.named` takes it; ``Res256Crop224``
            unless given.
        split: ``test`` (``val``) or ``train``.
    Raises:
        InputError: no such folder, folders of no class, an image that the list names and is not there.
    """
    folder, options = _options(place)
    expected = f"{_EXPECTED[name]}, with folders named as n01440764"
    root = split_folder(Path(folder), _IMAGENET_SPLITS[split], expected)
    preprocessing = Preprocessing.named(options.get("prep", "Res256Crop224"))
    numbers = {wnid: number for number, wnid in enumerate(wnids())}
    present = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name in numbers)
    if not present:
        raise InputError(
            f"{root}: no folder is named by a WordNet id of ImageNet's classes, as n01440764; expected "
            f"{_EXPECTED[name]}"
        )
    outputs: tuple[int, ...] | None = None
    if name != "imagenet":
        if len(present) != _SUBSET_CLASSES:
            raise InputError(
                f"{root}: {name} has 200 classes, {len(present)} folders are of ImageNet's; "
                f"expected {_EXPECTED[name]}"
            )
        outputs = tuple(numbers[wnid] for wnid in present)
    files = _in_order_of(root, Path(options["list"])) if "list" in options else _all_files(root, present)
    label_of = {wnid: place for place, wnid in enumerate(present)} if outputs else numbers
    labels = np.array([label_of[file.parts[0]] for file in files], dtype=np.int64)
    listed = f", those of {Path(options['list']).name} in its order" if "list" in options else ", fixed order"
    return Dataset(
        name=f"{name}:{place}",
        images=ImageFiles([root / file for file in files], preprocessing, coloured=True),
        scale=255.0,
        labels=labels,
        classes=len(outputs) if outputs else len(numbers),
        class_names=tuple(present) if outputs else wnids(),
        source=f"{name} folder {root.name}, {len(files)} images{listed}, {preprocessing}",
        outputs=outputs,
        notes=tuple(filter(None, [] if "list" in options else [_left_out(root, len(files))])),
    )


def _options(place: str) -> tuple[str, dict[str, str]]:
    options: dict[str, str] = {}
    while match := _OPTION.search(place):
        options[match[1]] = match[2]
        place = place[: match.start()]
    return place, options


def _all_files(root: Path, present: list[str]) -> list[PurePosixPath]:
    """Every image, in the order of the SHA-256 of its path, as for ``folder:``."""
    files = [
        PurePosixPath(wnid) / path.name
        for wnid in present
        for path in (root / wnid).iterdir()
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise InputError(f"{root}: its folders hold no images ({', '.join(sorted(SUFFIXES))})")
    return sorted(files, key=fixed_order)


def _in_order_of(root: Path, file: Path) -> list[PurePosixPath]:
    try:
        lines = file.read_text("utf-8").split("\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{file}: the list of images cannot be read ({reason})") from None
    paths, known = [PurePosixPath(line.split()[0]) for line in lines if line.strip()], set(wnids())
    for path in paths:
        if str(path.parent) not in known or not (root / path).is_file():
            raise InputError(
                f"{file}: {str(path)[:60]} is no image in {root}; expected lines WNID/IMAGE, as "
                "n01440764/a.JPEG, and the folder that the list was made for"
            )
    if not paths:
        raise InputError(f"{file}: names no images; expected lines WNID/IMAGE")
    return paths
