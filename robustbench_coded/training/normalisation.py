"""Mean and deviation of the training images, by channel."""

import numpy as np

from robustbench_coded.data.dataset import Dataset

_ENOUGH = 50_000  # images; more do not change the fourth digit
_CHUNK = 1000


def channel_statistics(data: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels of each channel in [0, 1], to four digits.

    On CIFAR-10 these are the figures that its checkpoints are usually normalised with.
    """
    count = min(len(data), _ENOUGH)
    total = np.zeros(data.image_shape[0])
    squares = np.zeros_like(total)
    for start in range(0, count, _CHUNK):
        x, _ = data.batch(range(start, min(start + _CHUNK, count)))
        pixels = x.double()
        total += pixels.sum((0, 2, 3)).numpy()
        squares += pixels.square().sum((0, 2, 3)).numpy()
    pixels_seen = count * data.images.shape[1] * data.images.shape[2]
    mean = total / pixels_seen
    deviation = np.sqrt(np.maximum(squares / pixels_seen - mean**2, 0))
    # A channel that never changes still needs a deviation to divide by.
    deviation = np.where(deviation < 1e-4, 1.0, deviation)
    return tuple(np.round(mean, 4).tolist()), tuple(np.round(deviation, 4).tolist())
