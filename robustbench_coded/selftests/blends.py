"""Images that no data set contains: means of two images of a class."""

import torch
from torch import Tensor


def blends(x: Tensor, y: Tensor, most: int, scale: float) -> tuple[Tensor, Tensor]:
    """Means of two images of one class, each image used once, at the levels of the data.

    A defence may have stored every image of a data set, but not these.

    Args:
        x: images [n, C, H, W] in [0, 1]. y: labels int64 [n].
        most: so many at most.
        scale: the pixel value that means 1.0 in the data; 1 for floats, which have no levels.

    Returns:
        images [m, C, H, W] and labels [m], in the order of their first parts.
    """
    waiting: dict[int, int] = {}
    pairs = []
    for i, label in enumerate(y.tolist()):
        if label in waiting:
            pairs.append((waiting.pop(label), i))
        else:
            waiting[label] = i
    chosen = torch.tensor(sorted(pairs)[:most], dtype=torch.int64, device=y.device).view(-1, 2)
    mean = (x[chosen[:, 0]] + x[chosen[:, 1]]) / 2
    return (mean * scale).round() / scale if scale > 1 else mean, y[chosen[:, 0]]
