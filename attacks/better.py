"""Which of two results of an attack is the better one, under draws that neither was chosen by."""

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.losses import margin_loss


def better_of(estimator: Estimator, y: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """For each example the point of the larger margin loss, compared under the same draws.

    Where an answer depends on its batch, points of two batches were never answered together. So the batch put
    together of both is compared with the better of the two, and the better one of these is the result.

    Args:
        y: true classes ``[G, K]``.
        first, second: ``[G, K, C, H, W]``; ``first`` is the result where nothing is left to pay with.
    """
    if estimator.exhausted:
        return first
    one, two = (found.loss for found in estimator.compare([first, second], y, margin_loss))
    mixed = torch.where(_wide(two > one), second, first)
    if estimator.per_example:
        return mixed
    whole = torch.where(_wide(_mean(two) > _mean(one)), second, first)
    if estimator.exhausted:
        return whole
    one, two = (found.loss for found in estimator.compare([whole, mixed], y, margin_loss))
    return torch.where(_wide(_mean(two) >= _mean(one)), mixed, whole)


def _mean(loss: Tensor) -> Tensor:
    """Of each batch, like ``loss`` ``[G, K]``."""
    return loss.mean(1, keepdim=True).expand_as(loss)


def _wide(per_example: Tensor) -> Tensor:
    return per_example[:, :, None, None, None]
