"""A chain of steps, as in diffusion, whose activations are computed again on the way back."""

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recompute(step: Callable[[Tensor, Any], Tensor], x: Tensor, times: int | Sequence[Any]) -> Tensor:
    """``x = step(x, t)`` for every t of ``times``, with the exact gradient of that loop in little memory.

    The loop keeps the activations of T steps until the backward pass. This keeps those of one, and about
    2 sqrt(T) images; each step is computed three times, not once (arXiv 1604.06174, in two levels). Values
    and gradients are those of the loop to the last bit.

        x = recompute(lambda x, t: x - unet(x, t), noisy, range(100))

    Args:
        step: maps images [k, C, H, W] and one of ``times`` to images. What it draws comes from torch's global
            generators, whose state is set again, or from a generator that it makes itself.
        x: images [k, C, H, W], or any tensor that ``step`` takes.
        times: what the steps are called with, in their order; a number T stands for 0 ... T - 1.

    Returns:
        What the last step returned; ``x`` without any.
    """
    times = range(times) if isinstance(times, int) else times

    def several(x: Tensor, times: Sequence[Any], length: int) -> Tensor:
        for start in range(0, len(times), length):
            part = times[start : start + length]
            if not (torch.is_grad_enabled() and x.requires_grad):
                x = step(x, part[0]) if length == 1 else several(x, part, 1)
            elif length == 1:
                x = checkpoint(step, x, part[0], use_reentrant=False)
            else:
                x = checkpoint(several, x, part, 1, use_reentrant=False)
        return x

    return several(x, times, max(1, isqrt(len(times))))
