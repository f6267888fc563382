"""Noise that gets in the way: Cauchy noise before the answer, and noise in the slope alone.

``heavy-noise``: the margin becomes m + s c with a Cauchy number c, which has no mean, so that an average over
draws does not settle. Truth: a perturbation moves m alone and the best one does not depend on the draw; an
input is right with probability 1/2 + atan(worst m / s) / pi under all threat models.

``random-slope``: a fragile linear model whose slope is, in each draw, that of a random direction. Its answers
do not depend on the draw; truth is the model's.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.defences.noise import standard_normal
from robustbench_coded.zoo.deterministic import standing, with_slope_of
from robustbench_coded.zoo.known import Known, everywhere, exactly
from robustbench_coded.zoo.linear import (
    LinearModel,
    along,
    fragile,
    margins,
    pattern,
    planted_margins,
    spread,
    two_logits,
    worst_margins,
)


class HeavyNoise:
    """Adds ``scale`` times a Cauchy number to the score of each input; a draw is those numbers [k]."""

    name = "heavy-noise"
    randomised = True
    batch_dependent = False
    base: nn.Module | None = None

    def __init__(self, model: LinearModel, scale: float):
        self.model = model
        self.scale = scale

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
        # Quantiles of the distribution; float64, in which the extremes are finite.
        return torch.tan(torch.pi * (torch.rand(k, generator=generator, dtype=torch.float64) - 0.5))

    def logits(self, x: Tensor, draw: Tensor) -> Tensor:
        return two_logits(self.model.gain * (self.model.score(x) + self.scale * draw.to(x)))


class RandomSlope:
    """Has the model's logits and the slope of Gaussian weights; a draw is their seed."""

    name = "random-slope"
    randomised = True
    batch_dependent = False
    base: nn.Module | None = None

    def __init__(self, model: LinearModel):
        self.model = model

    def sample(self, generator: torch.Generator, k: int) -> int:
        return int(torch.randint(2**31, (), generator=generator))

    def logits(self, x: Tensor, draw: int) -> Tensor:
        made_up = (x * standard_normal(draw, x.shape[1:]).to(x)).flatten(1).sum(1)
        return with_slope_of(self.model(x), two_logits(made_up))


def known(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 1.4 to 2.4 eps under noise of scale 0.1 eps."""
    model, scale = along(pattern(41)), 0.1 * eps
    x, y = planted_margins(spread(1.4 * eps, 2.4 * eps, n), pattern(41))

    def accuracy(margin: Tensor) -> float:
        return (0.5 + torch.atan(margin / scale) / torch.pi).mean().item()

    clean, robust = (exactly(accuracy(m)) for m in (margins(model, x, y), worst_margins(model, x, y, eps)))
    return Known(HeavyNoise(model, scale), x, y, 128, clean, everywhere(robust))


def known_random_slope(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = fragile(41, n, eps)
    clean = exactly((margins(model, x, y) > 0).double().mean().item())
    return Known(RandomSlope(model), x, y, 128, clean, everywhere(standing(model, x, y, eps)))
