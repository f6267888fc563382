"""What a user's defence answers, as the finite floating-point logits that everything else counts on."""

from typing import Any

import torch
from torch import Tensor

from robustbench_coded.models.in_memory import logits_of

# How far below the smallest finite logit of an input a class is put that was given no chance at all.
BELOW = 1.0


def as_logits(answer: Any, of: str = "it") -> Any:
    """Votes in integers become floats, classes that are ruled out get a finite logit; both keep the class.

    A logit of -inf (the logarithm of no votes, a masked class) says that the class is not the answer. It is
    replaced by BELOW less than the smallest finite logit of the input. Inputs with NaN or +inf, or with
    nothing finite, have no answer and are left as they are.

    Args:
        answer: [..., classes], or what has such a tensor in it (`logits_of`); anything else is returned as it
            is.
        of: the name of who answers.
    """
    answer = logits_of(answer, of)
    if not isinstance(answer, Tensor):
        return answer
    if answer.ndim > 1 and not answer.is_floating_point() and not answer.is_complex():
        return answer.to(torch.float32)
    if not answer.is_floating_point():
        return answer
    with torch._C.DisableTorchFunction():  # no operator of the defence's, and not relaxed as one
        return _finite(answer)


def changed_by(first: Tensor, second: Tensor) -> float:
    """The largest absolute change of any element; NaN or infinite both times is none, once is infinite."""
    if first.shape != second.shape:
        return torch.inf
    if not first.numel():
        return 0.0
    if first.dtype == torch.bool:
        first, second = first.float(), second.float()
    same = (first == second) | ~(first.isfinite() | second.isfinite())
    return float(torch.where(same, 0, second - first).abs().nan_to_num(nan=torch.inf).max())


def _finite(answer: Tensor) -> Tensor:
    values = answer.detach()
    ruled_out = values == -torch.inf
    if not bool(ruled_out.any()):
        return answer
    finite = values.isfinite()
    lowest = values.masked_fill(~finite, torch.inf).amin(-1, keepdim=True)
    usable = (finite | ruled_out).all(-1, keepdim=True) & finite.any(-1, keepdim=True)
    return torch.where(ruled_out & usable, lowest - BELOW, answer)
