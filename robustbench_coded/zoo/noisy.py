"""Randomised defences: noise before linear models and behind them, a coin, a module that samples inside
itself.
"""

import random

import numpy as np
import torch
from scipy.special import bdtrc
from torch import Tensor, nn
from torch.special import ndtr

from robustbench_coded.defences.inferences import GaussianNoise, standard_normal
from robustbench_coded.defences.protocol import Seeded
from robustbench_coded.defences.sampling import SamplingModule
from robustbench_coded.zoo import linear
from robustbench_coded.zoo.known import Known, Truth, everywhere, exactly

# A classifier that is right everywhere, but for a coin that has nothing to do with its input.
#
# Truth: every input is further than eps from the boundary, so no perturbation changes the classifier's
# answer. Whatever the attacker does and knows, an answer is right exactly when the coin does not fall, with
# probability 1 - p = 95%. It is the test of a toolkit's bookkeeping: counting any miss of several tries as a
# break gives 0.95^tries, which is the truth about an attacker who may submit every input so often.


P = 0.05


class CoinFlip:
    """Swaps the two logits of each input with probability ``p``. A draw is booleans [k]."""

    name = "coin-flip"
    randomised = True
    batch_dependent = False
    base: nn.Module | None = None

    def __init__(self, model: linear.LinearModel, p: float):
        self.model = model
        self.p = p

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
        return torch.rand(k, generator=generator) < self.p

    def logits(self, x: Tensor, draw: Tensor) -> Tensor:
        logits = self.model(x)
        return torch.where(draw.to(x.device).unsqueeze(-1), -logits, logits)


def known_coin_flip(n: int = 640, eps: float = 0.1, p: float = P) -> Known:
    model = linear.along(linear.pattern(9))
    x, y = linear.planted_margins(linear.spread(1.3 * eps, 1.9 * eps, n), linear.pattern(9))
    if not (linear.worst_margins(model, x, y, eps) > 0).all():
        raise ValueError(f"expected a classifier that is right everywhere, but {eps=} reaches its boundary")
    return Known(
        CoinFlip(model, p),
        x,
        y,
        128,
        exactly(1 - p),
        lambda threat: exactly(1 - p),
        submitted=lambda submissions: exactly((1 - p) ** submissions),
    )


# Gaussian noise before a linear model: with wide margins robust, with narrow ones only noisy.
#
# Truth: with noise z the margin of an input becomes m + w . z, where w . z is normal with deviation s = sigma
# ||w||_2. A perturbation d moves m by w . d, whatever the noise is, so the best one is the same before and
# after the draw is known: the one that makes m smallest within the ball and the box
# (``linear.worst_margins``). Under all threat models an input is right with probability Phi(worst m / s); in
# M submissions of the same input, or of any others, at best with its M-th power.


def known_noise_wide(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 1.2 to 2.2 eps under noise of deviation 0.4 eps: about 92% are right whatever is done."""
    defence = GaussianNoise(linear.along(linear.pattern(18)), sigma=3.2 * eps, name="noise-wide")
    defence.base = None  # the model underneath is as robust: against it, nothing is gained
    return _known_noise(defence, linear.spread(1.2 * eps, 2.2 * eps, n), eps)


def known_noise_narrow(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 0.2 to 0.6 eps under noise of deviation 0.2 eps: averaging over draws breaks it."""
    return _known_noise(
        GaussianNoise(linear.along(linear.pattern(18)), sigma=1.6 * eps, name="noise-narrow"),
        linear.spread(0.2 * eps, 0.6 * eps, n),
        eps,
    )


def _known_noise(defence: GaussianNoise, distances: Tensor, eps: float) -> Known:
    model = defence.model
    assert isinstance(model, linear.LinearModel)
    x, y = linear.planted_margins(distances, linear.pattern(18))
    deviation = defence.sigma * model.w.double().norm()

    def accuracy(margin: Tensor, submissions: int = 1) -> Truth:
        return exactly((ndtr(margin / deviation) ** submissions).mean().item())

    worst = linear.worst_margins(model, x, y, eps)
    robust = accuracy(worst)
    return Known(
        defence,
        x,
        y,
        128,
        accuracy(linear.margins(model, x, y)),
        lambda threat: robust,
        submitted=lambda submissions: accuracy(worst, submissions),
    )


# The median score over noisy copies of an input, before a linear model with wide margins.
#
# Truth: the copies' scores are m + w . z_i with independent z_i, so the median is m plus the median of the w
# . z_i. A perturbation moves m alone, the best one does not depend on the draw (as in ``noisy_linear``), and
# with an odd number c of copies an input is right when more than half of the w . z_i exceed -m. Each does so
# with probability q = Phi(worst m / (sigma ||w||_2)), hence P(right) = P(Binomial(c, q) > c / 2) under all
# threat models.


class MedianOfNoise(Seeded):
    """Answers by the median score of ``copies`` noisy copies, an odd number; a draw is the noise's seed."""

    name = "median-of-noise"

    def __init__(self, model: linear.LinearModel, sigma: float, copies: int):
        self.model = model
        self.sigma = sigma
        self.copies = copies

    def images(self, k: int) -> int:
        return k * self.copies

    def logits(self, x: Tensor, draw: int) -> Tensor:
        noise = standard_normal(draw, (self.copies, *x.shape)).to(x)
        scores = self.model.score((x + self.sigma * noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
        return linear.two_logits(self.model.gain * scores.median(0).values)


def known_median_of_noise(n: int = 640, eps: float = 0.1, copies: int = 9) -> Known:
    """Margins of 1.1 to 2 eps under noise of deviation eps for each copy."""
    model = linear.along(linear.pattern(27))
    defence = MedianOfNoise(model, sigma=8 * eps, copies=copies)
    x, y = linear.planted_margins(linear.spread(1.1 * eps, 2.0 * eps, n), linear.pattern(27))
    deviation = defence.sigma * model.w.double().norm()

    def accuracy(margin: Tensor) -> float:
        return float(bdtrc(copies // 2, copies, ndtr(margin / deviation).double().numpy()).mean())

    robust = exactly(accuracy(linear.worst_margins(model, x, y, eps)))
    return Known(defence, x, y, 128, exactly(accuracy(linear.margins(model, x, y))), lambda threat: robust)


# Noise that gets in the way: Cauchy noise before the answer, and noise in the slope alone.
#
# ``heavy-noise``: the margin becomes m + s c with a Cauchy number c, which has no mean, so that an average
# over draws does not settle. Truth: a perturbation moves m alone and the best one does not depend on the
# draw; an input is right with probability 1/2 + atan(worst m / s) / pi under all threat models.
#
# ``random-slope``: a fragile linear model whose slope is, in each draw, that of a random direction. Its
# answers do not depend on the draw; truth is the model's.


class HeavyNoise:
    """Adds ``scale`` times a Cauchy number to the score of each input; a draw is those numbers [k]."""

    name = "heavy-noise"
    randomised = True
    batch_dependent = False
    base: nn.Module | None = None

    def __init__(self, model: linear.LinearModel, scale: float):
        self.model = model
        self.scale = scale

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
        # Quantiles of the distribution; float64, in which the extremes are finite.
        return torch.tan(torch.pi * (torch.rand(k, generator=generator, dtype=torch.float64) - 0.5))

    def logits(self, x: Tensor, draw: Tensor) -> Tensor:
        return linear.two_logits(self.model.gain * (self.model.score(x) + self.scale * draw.to(x)))


class RandomSlope(Seeded):
    """Has the model's logits and the slope of Gaussian weights; a draw is their seed."""

    name = "random-slope"

    def __init__(self, model: linear.LinearModel):
        self.model = model

    def logits(self, x: Tensor, draw: int) -> Tensor:
        made_up = (x * standard_normal(draw, x.shape[1:]).to(x)).flatten(1).sum(1)
        return linear.with_slope_of(self.model(x), linear.two_logits(made_up))


def known_heavy_noise(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 1.4 to 2.4 eps under noise of scale 0.1 eps."""
    model, scale = linear.along(linear.pattern(41)), 0.1 * eps
    x, y = linear.planted_margins(linear.spread(1.4 * eps, 2.4 * eps, n), linear.pattern(41))

    def accuracy(margin: Tensor) -> float:
        return (0.5 + torch.atan(margin / scale) / torch.pi).mean().item()

    clean, robust = (
        exactly(accuracy(m)) for m in (linear.margins(model, x, y), linear.worst_margins(model, x, y, eps))
    )
    return Known(HeavyNoise(model, scale), x, y, 128, clean, everywhere(robust))


def known_random_slope(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.fragile(41, n, eps)
    return linear.like_the_model(RandomSlope(model), model, x, y, eps)


# A plain module that draws from all three global generators of the process, before a linear model's answer.
#
# Truth: the margin becomes m + g with g = sigma (z_1 + z_2 + z_3) / sqrt(3), one normal number from torch,
# one from numpy and one from Python, hence normal with deviation sigma. A perturbation moves m alone, the
# best one does not depend on the draw, and an input is right with probability Phi(worst m / sigma) under all
# threat models.


class NoisyScore(nn.Module):
    """Adds normal noise of deviation ``sigma`` to the score; says nothing about itself."""

    def __init__(self, model: linear.LinearModel, sigma: float):
        super().__init__()
        # Kept out of the module's parts: the linear model is not offered as a base.
        self.linear = [model]
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        (model,) = self.linear
        by_numpy = torch.from_numpy(np.random.standard_normal(len(x))).to(x)
        by_python = torch.tensor([random.gauss(0, 1) for _ in x]).to(x)
        noise = (torch.randn(len(x)).to(x) + by_numpy + by_python) / 3**0.5
        return linear.two_logits(model.gain * (model.score(x) + self.sigma * noise))


def known_sampling_module(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 1.2 to 2.2 eps under noise of deviation 0.5 eps."""
    model = linear.along(linear.pattern(34))
    x, y = linear.planted_margins(linear.spread(1.2 * eps, 2.2 * eps, n), linear.pattern(34))
    sigma = 0.5 * eps
    clean = exactly(ndtr(linear.margins(model, x, y) / sigma).mean().item())
    robust = exactly(ndtr(linear.worst_margins(model, x, y, eps) / sigma).mean().item())
    defence = SamplingModule(NoisyScore(model, sigma), name="sampling-module")
    return Known(defence, x, y, 128, clean, lambda threat: robust)
