"""scikit-learn's bundled tables, and digits as sequences, split anew for every seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustbench_coded.errors import InputError

TEST_SHARE = 1 / 3
# Set -> its rows. Digits: 64 brightnesses in a row, nothing known of their places. Digit-lines: the same
# images read line by line, sequences of 8 tokens with 8 numbers each.
SETS = {"breast-cancer": 569, "wine": 178, "digits": 1797, "digit-lines": 1797}
_TOKENS = {"digit-lines": 8}
_LOADERS = {
    "breast-cancer": "load_breast_cancer",
    "wine": "load_wine",
    "digits": "load_digits",
    "digit-lines": "load_digits",
}


class Split(NamedTuple):
    """Rows as images of one pixel with a channel for each feature, as training takes them.

    Attributes:
        x, test_x: ``[n, features, 1, 1]``. y, test_y: ``[n]``.
        mean, deviation: of each feature over the training rows; 1 for a constant one.
        tokens: in how many tokens of equal length the features are read one after the other; 0 for a table.
    """

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    classes: int
    tokens: int = 0


def split_of(name: str, seed: int) -> Split:
    """Two thirds of the rows to train on and one third to test on, every class in both.

    Raises:
        InputError: another name.
    """
    if name not in SETS:
        raise InputError(f"--sets {name}: no such data set; known: {', '.join(SETS)}")
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    loaded = getattr(datasets, _LOADERS[name])()
    table, labels = np.asarray(loaded.data, np.float32), np.asarray(loaded.target, np.int64)
    parts = train_test_split(table, labels, test_size=TEST_SHARE, stratify=labels, random_state=seed)
    x, test_x, y, test_y = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    deviation = x.std(dim=0, correction=0)
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return Split(
        x[:, :, None, None],
        y,
        test_x[:, :, None, None],
        test_y,
        tuple(x.mean(dim=0).tolist()),
        tuple(deviation.tolist()),
        int(labels.max()) + 1,
        _TOKENS.get(name, 0),
    )
