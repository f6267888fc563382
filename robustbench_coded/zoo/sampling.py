"""A plain module that draws from all three global generators of the process, before a linear model's answer.

Truth: the margin becomes m + g with g = sigma (z_1 + z_2 + z_3) / sqrt(3), one normal number from torch, one
from numpy and one from Python, hence normal with deviation sigma. A perturbation moves m alone, the best one
does not depend on the draw, and an input is right with probability Phi(worst m / sigma) under all threat
models.
"""

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.special import ndtr

from robustbench_coded.defences.sampling_module import SamplingModule
from robustbench_coded.zoo.known import Known, exactly
from robustbench_coded.zoo.linear import (
    LinearModel,
    along,
    margins,
    pattern,
    planted_margins,
    spread,
    two_logits,
    worst_margins,
)


class NoisyScore(nn.Module):
    """Adds normal noise of deviation ``sigma`` to the score; says nothing about itself."""

    def __init__(self, model: LinearModel, sigma: float):
        super().__init__()
        # Kept out of the module's parts: the linear model is not offered as a base.
        self.linear = [model]
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        (model,) = self.linear
        by_numpy = torch.from_numpy(np.random.standard_normal(len(x))).to(x)
        by_python = torch.tensor([random.gauss(0, 1) for _ in x]).to(x)
        noise = (torch.randn(len(x)).to(x) + by_numpy + by_python) / 3**0.5
        return two_logits(model.gain * (model.score(x) + self.sigma * noise))


def known(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 1.2 to 2.2 eps under noise of deviation 0.5 eps."""
    model = along(pattern(34))
    x, y = planted_margins(spread(1.2 * eps, 2.2 * eps, n), pattern(34))
    sigma = 0.5 * eps
    clean = exactly(ndtr(margins(model, x, y) / sigma).mean().item())
    robust = exactly(ndtr(worst_margins(model, x, y, eps) / sigma).mean().item())
    defence = SamplingModule(NoisyScore(model, sigma), name="sampling-module")
    return Known(defence, x, y, 128, clean, lambda threat: robust)
