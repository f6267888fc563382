"""Which of two results of an attack is the better one, under draws that neither was chosen by."""

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.losses import margin_loss
from attacks.wide import wide


def better_of(estimator: Estimator, y: Tensor, first: Tensor, second: Tensor, times: int = 1) -> Tensor:
    """For each example the point of the larger margin loss, compared under the same draws.

    Where an answer depends on its batch, points of two batches were never answered together: there the better
    batch is the result.

    Args:
        y: true classes ``[G, K]``.
        first, second: ``[G, K, C, H, W]``; ``first`` is the result where the query budget is used up.
        times: how often both are asked; the mean loss decides.
    """
    gain = torch.zeros(y.shape, device=y.device)
    for _ in range(times):
        if estimator.exhausted:
            return first
        one, two = (found.loss for found in estimator.compare([first, second], y, margin_loss))
        gain = gain + (two - one)
    return torch.where(wide(larger(estimator, gain, torch.zeros_like(gain))), second, first)


def larger(estimator: Estimator, loss: Tensor, other: Tensor) -> Tensor:
    """``[G, K]``, where ``loss`` ``[G, K]`` is larger than ``other``: by batch where batches are coupled."""
    if estimator.coupled:
        loss, other = (of.mean(1, keepdim=True).expand_as(of) for of in (loss, other))
    return loss > other
