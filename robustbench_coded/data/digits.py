"""scikit-learn's handwritten digits: 1,797 grey images of 8 x 8 pixels with 17 levels, no download."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from robustbench_coded.data.dataset import Dataset

TRAIN_SIZE = 1157  # the other 640 are five test batches of 128


def load_digits(split: str) -> Dataset:
    """The first 1,157 (``train``) or last 640 (``test``) images of a fixed permutation."""
    stored = _stored()
    # RandomState's stream is frozen by numpy's compatibility policy; default_rng's is not.
    order = np.random.RandomState(0).permutation(len(stored))
    rows = order[:TRAIN_SIZE] if split == "train" else order[TRAIN_SIZE:]
    return Dataset(
        name="digits",
        images=stored[rows, :-1].reshape(-1, 8, 8, 1).astype(np.uint8),
        scale=16.0,
        labels=stored[rows, -1].astype(np.int64),
        classes=10,
        class_names=tuple("0123456789"),
        source=f"scikit-learn's digits, {split} split of a fixed permutation",
    )


def _stored() -> np.ndarray:
    """All images and labels [1797, 65], from the file in scikit-learn's package.

    Importing scikit-learn, which reads the same file, takes two seconds.
    """
    package = find_spec("sklearn")
    assert package is not None and package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(file, "rt") as lines:
        return np.loadtxt(lines, delimiter=",")
