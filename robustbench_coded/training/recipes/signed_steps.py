"""Signed gradient ascent inside an l-infinity ball, as adversarial training uses it (arXiv 1706.06083)."""

from collections.abc import Callable

import torch
from torch import Tensor


def signed_steps(
    start: Tensor,
    ball: tuple[Tensor, Tensor],
    loss: Callable[[Tensor], Tensor],
    *,
    steps: int,
    step_size: float,
) -> Tensor:
    """The last iterate.

    Args:
        start: [k, C, H, W].
        ball: the lowest and the highest pixels, each as ``start``.
        loss: a scalar that grows.
        step_size: in pixel units.
    """
    x = start
    for _ in range(steps):
        x.requires_grad_()
        (grad,) = torch.autograd.grad(loss(x), x)
        x = (x.detach() + step_size * grad.sign()).clamp(*ball)
    return x.detach()


def ball_around(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The lowest and the highest pixels within eps of ``x`` and in [0, 1]."""
    return (x - eps).clamp(min=0), (x + eps).clamp(max=1)
