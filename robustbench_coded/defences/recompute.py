"""A chain of steps, as in diffusion, whose activations are computed again on the way back."""

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recompute(step: Callable[[Tensor, Any], Tensor], x: Tensor, times: int | Sequence[Any]) -> Tensor:
    """Runs ``x = step(x, t)`` for every t of ``times`` with exact gradients in little memory.

    A plain loop stores the activations of T steps until the backward pass. This function stores those of one
    step and about 2 sqrt(T) images, and computes each step three times (arXiv 1604.06174, in two levels).
    Values and gradients equal those of the loop bit for bit.

        x = recompute(lambda x, t: x - unet(x, t), noisy, range(100))

    Args:
        step: maps images [k, C, H, W] and one of ``times`` to images. It may sample from torch's global
            generators, whose state is restored, or from a generator that it creates.
        x: images [k, C, H, W], or any tensor that ``step`` takes.
        times: second arguments of ``step``, in order; a number T stands for 0 ... T - 1.

    Returns:
        The result of the last step; ``x`` if there are no steps.
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
