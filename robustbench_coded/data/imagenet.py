"""ImageNet's validation images, and ImageNet-R: folders named by WordNet ids.

``imagenet:DIR`` numbers the 1,000 classes as all trained networks do, also where some folders are missing.
``imagenet-r:DIR`` (arXiv 2006.16241; Table 5 of arXiv 2510.00253) has 200 of the classes; of a network's
1,000 logits those alone are compared. Images are decoded when a batch asks for them.
"""

import re
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath

import numpy as np

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.image_folders import (
    SUFFIXES,
    ImageFiles,
    Preprocessing,
    fixed_order,
    split_folder,
)
from robustbench_coded.errors import InputError

_EXPECTED = {
    "imagenet": "ImageNet's validation images",
    "imagenet-r": "ImageNet-R, imagenet-r.tar unpacked",
}
_SUBSET_CLASSES = 200
_SPLITS = {"test": ("val", "validation", "test"), "train": ("train",)}
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
    root = split_folder(Path(folder), _SPLITS[split], expected)
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
    files = _listed(root, Path(options["list"])) if "list" in options else _all_files(root, present)
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


def _listed(root: Path, file: Path) -> list[PurePosixPath]:
    try:
        lines = file.read_text("utf-8").split("\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{file}: the list of images cannot be read ({reason})") from None
    paths = [PurePosixPath(line.split()[0]) for line in lines if line.strip()]
    for path in paths:
        if str(path.parent) not in wnids() or not (root / path).is_file():
            raise InputError(
                f"{file}: {str(path)[:60]} is no image in {root}; expected lines WNID/IMAGE, as "
                "n01440764/a.JPEG, and the folder that the list was made for"
            )
    if not paths:
        raise InputError(f"{file}: names no images; expected lines WNID/IMAGE")
    return paths
