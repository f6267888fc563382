"""CelebA's aligned faces, which the paper's generators are trained on."""

from pathlib import Path

import numpy as np

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.image_folders import ImageFiles, Preprocessing, listed
from robustbench_coded.errors import InputError


def load_celeba(root: Path, split: str, size: int) -> Dataset:
    """CelebA's aligned faces as published: ``root/img_align_celeba/IMAGE`` in one folder, and
    ``root/list_eval_partition.txt``, whose lines ``IMAGE NUMBER`` name the split. The faces have no classes.

    Args:
        split: ``train`` (number 0) or ``test`` (2).
        size: the shorter side is scaled to this, and a square is cut from the middle.
    Raises:
        InputError: a file is missing, or a line names no split or no image.
    """
    partition, folder = root / "list_eval_partition.txt", root / "img_align_celeba"
    if not partition.is_file():
        raise InputError(f"{partition}: no such file; put it and the folder {folder.name} of CelebA there")
    wanted = {"train": "0", "test": "2"}[split]
    lines = listed(partition, folder, ("0", "1", "2"), None, "0, 1 or 2")
    paths = [path for path, number in lines if number == wanted]
    if not paths:
        raise InputError(f"{partition}: names no {split} images (number {wanted})")
    return Dataset(
        name=f"celeba:{root}@{size}",
        images=ImageFiles(paths, Preprocessing(size, size)),
        scale=255.0,
        labels=np.zeros(len(paths), np.int64),
        classes=1,
        class_names=(),
        source=f"CelebA, {len(paths)} {split} images, scaled and cropped to {size} x {size}",
    )
