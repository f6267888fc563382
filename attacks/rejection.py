"""Targets that may reject an input: a rejected input is no success of the attack."""

import torch
from torch import Tensor


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
