"""Threat models as tensors: whose losses count in a batch, and which of its inputs may be perturbed."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from attacks.gradients import gradient


@dataclass(frozen=True, eq=False)
class Objective:
    """Attributes:
    weights: ``[G, K]`` of numbers >= 0. Every slot's steps increase the weighted mean of the batch's losses,
        and that mean is the loss of every slot: one victim's loss, for example. None:
        each slot's loss is its own, and its steps increase the sum of the batch's.

    Raises:
        ValueError: weights below 0, or a batch without one above 0.
    """

    weights: Tensor | None = None

    def __post_init__(self) -> None:
        w = self.weights
        if w is not None and (w.ndim != 2 or not bool((w >= 0).all() & (w.sum(1) > 0).all())):
            raise ValueError("expected weights [G, K] >= 0 with one above 0 in each batch")

    def slot_losses(self, losses: Tensor) -> Tensor:
        """``[n, G, K]`` losses of the examples -> ``[n, G, K]`` losses that the slots maximise."""
        if self.weights is None:
            return losses
        if self.weights.shape != losses.shape[1:]:
            raise ValueError(f"expected weights {tuple(losses.shape[1:])}, got {tuple(self.weights.shape)}")
        weights = self.weights.to(losses)
        mean = (losses * weights).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
        return mean.expand_as(losses)

    def differentiate(self, raised: Tensor, x: Tensor) -> Tensor:
        """The gradient of each slot's loss, like ``x``.

        Args:
            raised: slot losses ``[n, G, K]``.
            x: the leaf they were computed from, ``[n * G, K, C, H, W]``.
        Raises:
            NoGradient: they were not, or torch cannot differentiate what connects them.
        """
        # With weights all slots of a batch hold the same number.
        return gradient((raised if self.weights is None else raised.mean(-1)).sum(), x)


class Roles(NamedTuple):
    """Attributes:
    eps_scale: ``[G, K]``, for ``PerturbationBudget``: 0 holds a slot, 1 gives it eps, inf the whole box.
    weights: ``[G, K]``, for ``Objective``: whose losses the attack maximises.
    """

    eps_scale: Tensor
    weights: Tensor


def one_victim(slots: Tensor, k: int) -> Roles:
    """One input moves within eps, among co-batched inputs that are held; its own loss counts.

    Args:
        slots: ``[G]``, the victim's place in each batch.
        k: inputs a batch.
    """
    victims = torch.nn.functional.one_hot(slots, k).to(torch.float32)
    return Roles(victims, victims)


def co_batch(slots: Tensor, k: int) -> Roles:
    """The victim moves within eps and its co-batched inputs anywhere in the box (arXiv 2301.12576)."""
    victims = torch.nn.functional.one_hot(slots, k).to(torch.float32)
    return Roles(torch.where(victims > 0, 1.0, torch.inf), victims)


def copies(victims: Tensor, k: int) -> Tensor:
    """Batches of ``k`` copies of one input each, ``[G, C, H, W]`` -> ``[G, k, C, H, W]``.

    All coded inputs of such a batch are equal, so randomised coded inference answers as its base model does.
    """
    return victims[:, None].repeat(1, k, 1, 1, 1)
