"""Which levels the pixels of a data set have: 255 in most, 16 in the digits, none in floats of any value."""

import numpy as np

from robustbench_coded.data.dataset import Dataset

LOOKED_AT = 64  # images, spread over the set
MOST = 255
NEAR = 1e-4  # of a level: pixels are in float32, and files may have been written with fewer digits


def levels_of(data: Dataset) -> int | None:
    """The smallest L up to 255 for which every pixel is a multiple of 1/L; None where there is no such L."""
    chosen = np.unique(np.linspace(0, len(data) - 1, min(LOOKED_AT, len(data))).astype(np.int64))
    pixels = np.unique(data.batch(chosen)[0].numpy()).astype(np.float64)
    if len(pixels) > MOST + 1:
        return None
    for levels in range(1, MOST + 1):
        scaled = pixels * levels
        if np.abs(scaled - scaled.round()).max() <= NEAR:
            return levels
    return None
