"""Targets that fail at an input, by NaN or infinite logits: an attack that gets there has succeeded."""

import torch
from torch import Tensor

LOST = 1e4  # margin of an input without an answer, far above what networks have


def fold_unanswered(logits: Tensor, y: Tensor) -> Tensor:
    """Logits in which an input without finite ones counts as misclassified, by the margin LOST.

    They are constants there: no gradient leads on, and none is needed.

    Args:
        logits: ``[..., classes]``. y: true classes ``[...]``.
    """
    answered = logits.isfinite().all(-1, keepdim=True)
    if bool(answered.all()):
        return logits
    lost = torch.zeros_like(logits).scatter(-1, y.unsqueeze(-1), -LOST)
    return torch.where(answered, logits, lost)
