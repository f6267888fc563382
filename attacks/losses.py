"""Losses that attacks maximise: one number per example, larger where the answer is more wrong."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]  # logits [..., classes], y [...] -> [...]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Minus the log-probability of class ``y`` (int64, ``[...]``) under ``logits`` ``[..., classes]``."""
    return functional.cross_entropy(logits.flatten(0, -2), y.flatten(), reduction="none").view(y.shape)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """The logit of the true class less the largest other one: positive where the answer is right.

    The same number as the column ``margin`` of the stored outcomes. Attacks raise ``margin_loss``.
    """
    true = logits.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return true - logits.scatter(-1, y.unsqueeze(-1), -torch.inf).amax(-1)


def margin_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Minus the margin: positive where the answer is wrong."""
    return -margin(logits, y)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (arXiv 2003.01690, eq. 6): the margin loss over (largest - third largest).

    Unlike cross-entropy it does not change when the logits are scaled or shifted. With fewer than four
    classes there is nothing to divide by, and it is the margin loss.
    """
    if logits.shape[-1] < 4:
        return margin_loss(logits, y)
    top = logits.topk(3, dim=-1).values
    return margin_loss(logits, y) / (top[..., 0] - top[..., 2] + 1e-12)


def targeted_dlr(logits: Tensor, pairs: Tensor) -> Tensor:
    """Targeted DLR (arXiv 2003.01690, eq. 7); ``pairs`` ``[..., 2]`` holds the true class and the target.

    Target logit less true logit, over (largest - mean of third and fourth); with fewer than four classes not
    divided.
    """
    gain = targeted_margin(logits, pairs)
    if logits.shape[-1] < 4:
        return gain
    top = logits.topk(4, dim=-1).values
    return gain / (top[..., 0] - 0.5 * (top[..., 2] + top[..., 3]) + 1e-12)


def targeted_margin(logits: Tensor, pairs: Tensor) -> Tensor:
    """Target logit less true logit; ``pairs`` ``[..., 2]`` holds the true class and the target."""
    both = logits.gather(-1, pairs)
    return both[..., 1] - both[..., 0]


def pair_loss(logits: Tensor, pairs: Tensor) -> Tensor:
    """Cross-entropy between two classes alone; ``pairs`` ``[..., 2]`` holds the true class and the target.

    It counts most where the target is close to the true class or beyond it.
    """
    return functional.softplus(targeted_margin(logits, pairs))


BY_NAME: dict[str, Loss] = {"ce": cross_entropy, "margin": margin_loss, "dlr": dlr}
