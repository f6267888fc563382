"""Exact gradients through the steps of a sampler, at the memory of one step and the images between them."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Step = Callable[[Tensor], Tensor]


def after_steps(x: Tensor, steps: Iterable[Step]) -> Tensor:
    """What ``steps``, applied one after the other, make of ``x``; differentiable like the plain loop.

    Where a gradient is asked for, each step keeps its input alone and is computed again on the way back
    (arXiv 1604.06174). So a step must give the same answer twice: it draws nothing by itself.
    """
    for step in steps:
        if torch.is_grad_enabled() and x.requires_grad:
            x = checkpoint(step, x, use_reentrant=False, preserve_rng_state=False)
        else:
            x = step(x)
    return x
