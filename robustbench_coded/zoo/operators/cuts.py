"""Scores of signed pixels that leave torch's graph, or lie in it. None falls as a pixel grows."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

DECOY = 1e-3  # share of a slope that stays, on the first row of pixels alone


class SilentSign(torch.autograd.Function):
    """Signs, with a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        return u.sign()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return torch.zeros_like(grads[0])


class LyingSteps(torch.autograd.Function):
    """Rounds to eighths, with a gradient of the opposite sign in every second pixel."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        return ((8 * u).floor() + 0.5) / 8

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        turned = torch.ones_like(grads[0])
        turned[:, ::2] = -1.0
        return grads[0] * turned


def silent_backward(u: Tensor) -> Tensor:
    return SilentSign.apply(u).mean(1)


def lying_backward(u: Tensor) -> Tensor:
    return LyingSteps.apply(u).mean(1)


def detached(u: Tensor) -> Tensor:
    """All of the score but a thousandth of the first row is detached."""
    return u.detach().mean(1) + DECOY * u[:, :8].mean(1)


def without_graph(u: Tensor) -> Tensor:
    """Rounded under no_grad."""
    with torch.no_grad():
        steps = (8 * u + 0.5).round() - 0.5
    return steps.mean(1) + DECOY * u[:, :8].mean(1)


def through_numpy(u: Tensor) -> Tensor:
    steps = np.floor(8 * u.detach().cpu().numpy()) + 0.5
    return torch.from_numpy(steps).to(u).mean(1)


def in_python(u: Tensor) -> Tensor:
    """Pixels above zero, counted in Python: no gradient comes back in any way."""
    return u.new_tensor([sum(value > 0 for value in image) / len(image) - 0.5 for image in u.tolist()])
