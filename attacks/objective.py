"""Threat models as tensors: whose losses count in a batch, and which of its inputs may be perturbed."""

from typing import NamedTuple

import torch
from torch import Tensor


class Roles(NamedTuple):
    """Attributes:
    eps_scale: ``[G, K]``, for ``PerturbationBudget``: 0 holds a slot, 1 gives it eps, inf the whole box.
    weights: ``[G, K]``, for estimators: whose losses the attack maximises.
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
