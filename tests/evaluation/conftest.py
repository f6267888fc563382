"""A network and images that it labels rightly, for evaluations in memory."""

import torch
from torch import nn

K = 8
SMALL = {"batch_sizes": K, "eps": 0.1, "draws": 2, "selection_draws": 2}


class RowMean(nn.Module):
    """Two classes by the mean of an image's first pixel row, which is right on `labelled`."""

    def forward(self, x):
        score = 8 * (x[:, 0, 0].mean(-1) - 0.5)
        return torch.stack([-score, score], 1)


def labelled():
    y = torch.arange(3 * K) % 2
    x = torch.full((3 * K, 1, 8, 8), 0.5)
    x[:, 0, 0] += (0.05 * (2 * y - 1))[:, None]
    return x, y
