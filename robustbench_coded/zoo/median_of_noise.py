"""The median score over noisy copies of an input, before a linear model with wide margins.

Truth: the copies' scores are m + w . z_i with independent z_i, so the median is m plus the median of the w .
z_i. A perturbation moves m alone, the best one does not depend on the draw (as in ``noisy_linear``), and with
an odd number c of copies an input is right when more than half of the w . z_i exceed -m. Each does so with
probability q = Phi(worst m / (sigma ||w||_2)), hence P(right) = P(Binomial(c, q) > c / 2) under all threat
models.
"""

import torch
from scipy.special import bdtrc
from torch import Tensor, nn
from torch.special import ndtr

from robustbench_coded.defences.noise import standard_normal
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


class MedianOfNoise:
    """Answers by the median score of ``copies`` noisy copies, an odd number; a draw is the noise's seed."""

    name = "median-of-noise"
    randomised = True
    batch_dependent = False
    base: nn.Module | None = None

    def __init__(self, model: LinearModel, sigma: float, copies: int):
        self.model = model
        self.sigma = sigma
        self.copies = copies

    def images(self, k: int) -> int:
        return k * self.copies

    def sample(self, generator: torch.Generator, k: int) -> int:
        return int(torch.randint(2**31, (), generator=generator))

    def logits(self, x: Tensor, draw: int) -> Tensor:
        noise = standard_normal(draw, (self.copies, *x.shape)).to(x)
        scores = self.model.score((x + self.sigma * noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
        return two_logits(self.model.gain * scores.median(0).values)


def known(n: int = 640, eps: float = 0.1, copies: int = 9) -> Known:
    """Margins of 1.1 to 2 eps under noise of deviation eps for each copy."""
    model = along(pattern(27))
    defence = MedianOfNoise(model, sigma=8 * eps, copies=copies)
    x, y = planted_margins(spread(1.1 * eps, 2.0 * eps, n), pattern(27))
    deviation = defence.sigma * model.w.double().norm()

    def accuracy(margin: Tensor) -> float:
        return float(bdtrc(copies // 2, copies, ndtr(margin / deviation).double().numpy()).mean())

    robust = exactly(accuracy(worst_margins(model, x, y, eps)))
    return Known(defence, x, y, 128, exactly(accuracy(margins(model, x, y))), lambda threat: robust)
