"""The interface of a target: what attacks may query, and how answers count that are none.

A rejected input is no success of an attack. An input with NaN or infinite logits is one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Oracle(Protocol):
    """Answers G batches of K inputs; each batch is answered jointly under one draw of the randomness.

    Attributes:
        randomised: whether two draws may give different answers. If False, estimators query once instead of
            averaging.
        independent: whether the answer to an input depends on that input alone: neither on a draw nor on
            co-batched inputs.

    Optional: ``reject``, the index of the class by which the target rejects an input.

    Optional: ``coupled``, whether an answer depends on the other inputs of its batch; a target that does not
    say is taken to be coupled unless it is independent.
    """

    randomised: bool
    independent: bool

    def draws(self, index: int) -> Sequence[Any]:
        """The attacker's ``index``-th draw, one for each of the G batches; the same for the same index."""

    def logits(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        """``[B, K, C, H, W]`` in [0, 1] -> ``[B, K, classes]``, differentiable.

        B is ``len(draws)``: any selection of the G batches, and one batch may appear many times.
        """

    def images(self, x: Tensor) -> int:
        """Number of images that one forward pass of ``x`` ``[B, K, C, H, W]`` sends through the network."""


def fold_rejection(logits: Tensor, y: Tensor, reject: int | None) -> Tensor:
    """Logits in which a rejected input counts as a right one, for losses and for counting.

    The true class takes the larger of its own logit and the reject class's, which falls to the smallest of
    all. So the largest logit is another class's only where that class beats both.

    Args:
        logits: ``[..., classes]``, the reject class among them.
        y: true classes ``[...]``, none of them ``reject``; of a targeted attack its goals ``[..., 2]``, the
            true class first.
        reject: index of the reject class; None leaves the logits as they are.
    """
    if reject is None:
        return logits
    true = y[..., :1] if y.ndim == logits.ndim else y.unsqueeze(-1)
    either = torch.maximum(logits.gather(-1, true), logits[..., reject : reject + 1])
    column = torch.full_like(true, reject)
    lowest = logits.detach().amin(-1, keepdim=True)
    return logits.scatter(-1, true, either).scatter(-1, column, lowest)


LOST = 1e4  # margin of an input without an answer, far above what networks have


def fold_unanswered(logits: Tensor, y: Tensor) -> Tensor:
    """Logits in which an input without finite ones counts as misclassified, by the margin LOST.

    They are constants there: no gradient leads on, and none is needed.

    Args:
        logits: ``[..., classes]``. y: true classes ``[...]``, or pairs that begin with them ``[..., 2]``.
    """
    answered = logits.isfinite().all(-1, keepdim=True)
    # Elsewhere the question would make the host wait for the device, and costs more than the answer saves.
    if logits.device.type == "cpu" and bool(answered.all()):
        return logits
    true = y[..., :1] if y.ndim == logits.ndim else y.unsqueeze(-1)
    lost = torch.zeros_like(logits).scatter(-1, true, -LOST)
    return torch.where(answered, logits, lost)


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
