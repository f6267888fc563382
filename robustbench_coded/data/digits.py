"""scikit-learn's handwritten digits: 1,797 grey images of 8 x 8 pixels with 17 levels, no download."""

import numpy as np

from robustbench_coded.data.dataset import Dataset

TRAIN_SIZE = 1157  # the other 640 are five test batches of 128


def load_digits(split: str) -> Dataset:
    """The first 1,157 (``train``) or last 640 (``test``) images of a fixed permutation."""
    from sklearn.datasets import load_digits as bundled  # one second to import, so only when asked for

    stored = bundled()
    # RandomState's stream is frozen by numpy's compatibility policy; default_rng's is not.
    order = np.random.RandomState(0).permutation(len(stored.target))
    rows = order[:TRAIN_SIZE] if split == "train" else order[TRAIN_SIZE:]
    return Dataset(
        name="digits",
        images=stored.images[rows].astype(np.uint8)[..., None],
        scale=16.0,
        labels=stored.target[rows].astype(np.int64),
        classes=10,
        class_names=tuple("0123456789"),
        source=f"scikit-learn's digits, {split} split of a fixed permutation",
    )
