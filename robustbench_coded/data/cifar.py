"""CIFAR-10 and CIFAR-100: found on this machine, else downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.download import download, search_path
from robustbench_coded.data.npz import load_npz
from robustbench_coded.errors import InputError

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
class _Variant:
    title: str
    folder: str  # the name that torchvision unpacks to
    torchvision_class: str
    class_names: tuple[str, ...]


VARIANTS = {
    "cifar10": _Variant("CIFAR-10", "cifar-10-batches-py", "CIFAR10", tuple(_CIFAR10_CLASSES.split())),
    "cifar100": _Variant("CIFAR-100", "cifar-100-python", "CIFAR100", tuple(_CIFAR100_CLASSES.split())),
}


def load_cifar(name: str, *, split: str, data_dir: Path | None = None) -> Dataset:
    """Reads ``cifar10`` or ``cifar100``, ``split`` ``train`` or ``test``.

    Looks in ``data_dir``, ``$CSROBUST_DATA`` and the user's cache folder, in each for torchvision's folder
    and then for ``NAME_SPLIT.npz``; downloads torchvision's copy where there is neither. The order of the
    images is that of the files found.

    Raises:
        InputError: the files found are damaged, or none were found and the download failed.
    """
    variant = VARIANTS[name]
    places = search_path(data_dir)
    for place in places:
        if (place / variant.folder).is_dir():
            return _from_torchvision(name, split, place)
        file = place / f"{name}_{split}.npz"
        if file.is_file():
            return load_npz(file, name=name, class_names=variant.class_names)
    by_hand = f"{name}_{split}.npz (x uint8 [n, 32, 32, 3], y int64 [n]) or torchvision's {variant.folder}"
    download(name, variant.torchvision_class, variant.folder, places, by_hand)
    return _from_torchvision(name, split, places[0])


def _from_torchvision(name: str, split: str, place: Path) -> Dataset:
    import torchvision.datasets

    variant = VARIANTS[name]
    reader = getattr(torchvision.datasets, variant.torchvision_class)
    try:
        # torchvision compares checksums before it unpickles anything.
        stored = reader(root=place, train=split == "train", download=False)
    except RuntimeError as error:
        raise InputError(
            f"{place / variant.folder}: incomplete or altered {variant.title} files; "
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
