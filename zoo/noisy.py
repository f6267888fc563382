"""Randomised defences: noise before linear models and behind them, a coin, a module that samples inside
itself, and two random ensembles.
"""

import random
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import bdtrc
from torch import Tensor, nn
from torch.special import ndtr

from robustbench_coded.defences import inferences, protocol, sampling
from zoo import linear
from zoo.known import Known, Truth, everywhere, exactly

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
    right = exactly(1 - p)
    return Known(CoinFlip(model, p), x, y, right, everywhere(right))


# Gaussian noise before a linear model: with wide margins robust, with narrow ones only noisy.
#
# Truth: with noise z the margin of an input becomes m + w . z, where w . z is normal with deviation s = sigma
# ||w||_2. A perturbation d moves m by w . d, whatever the noise is, so the best one is the same before and
# after the draw is known: the one that makes m smallest within the ball and the box
# (``linear.worst_margins``). Under all threat models an input is right with probability Phi(worst m / s).


def known_noise_wide(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 1.2 to 2.2 eps under noise of deviation 0.4 eps: about 92% are right whatever is done."""
    defence = inferences.GaussianNoise(linear.along(linear.pattern(18)), sigma=3.2 * eps)
    defence.name = "noise-wide"
    defence.base = None  # the model underneath is as robust: against it, nothing is gained
    return _known_noise(defence, linear.spread(1.2 * eps, 2.2 * eps, n), eps)


def known_noise_narrow(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 0.2 to 0.6 eps under noise of deviation 0.2 eps: averaging over draws breaks it."""
    defence = inferences.GaussianNoise(linear.along(linear.pattern(18)), sigma=1.6 * eps)
    defence.name = "noise-narrow"
    return _known_noise(defence, linear.spread(0.2 * eps, 0.6 * eps, n), eps)


def _known_noise(defence: inferences.GaussianNoise, distances: Tensor, eps: float) -> Known:
    model = defence.model
    assert isinstance(model, linear.LinearModel)
    x, y = linear.planted_margins(distances, linear.pattern(18))
    deviation = defence.sigma * model.w.double().norm()

    def accuracy(margin: Tensor) -> Truth:
        return exactly(ndtr(margin / deviation).mean().item())

    worst, clean = linear.worst_margins(model, x, y, eps), accuracy(linear.margins(model, x, y))
    return Known(defence, x, y, clean, everywhere(accuracy(worst)))


# The median score over noisy copies of an input, before a linear model with wide margins.
#
# Truth: the copies' scores are m + w . z_i with independent z_i, so the median is m plus the median of the w
# . z_i. A perturbation moves m alone, the best one does not depend on the draw (as in ``noisy_linear``), and
# with an odd number c of copies an input is right when more than half of the w . z_i exceed -m. Each does so
# with probability q = Phi(worst m / (sigma ||w||_2)), hence P(right) = P(Binomial(c, q) > c / 2) under all
# threat models.


class MedianOfNoise(protocol.Seeded):
    """Answers by the median score of ``copies`` noisy copies, an odd number; a draw is the noise's seed."""

    name = "median-of-noise"

    def __init__(self, model: linear.LinearModel, sigma: float, copies: int):
        self.model = model
        self.sigma = sigma
        self.copies = copies

    def images(self, k: int) -> int:
        return k * self.copies

    def logits(self, x: Tensor, draw: int) -> Tensor:
        noise = protocol.normal(draw, x.expand(self.copies, *x.shape))
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
    return Known(defence, x, y, exactly(accuracy(linear.margins(model, x, y))), lambda threat: robust)


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


class RandomSlope(protocol.Seeded):
    """Has the model's logits and the slope of Gaussian weights; a draw is their seed."""

    name = "random-slope"

    def __init__(self, model: linear.LinearModel):
        self.model = model

    def logits(self, x: Tensor, draw: int) -> Tensor:
        made_up = (x * protocol.normal(draw, x[0])).flatten(1).sum(1)
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
    return Known(HeavyNoise(model, scale), x, y, clean, everywhere(robust))


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
    defence = sampling.SamplingModule(NoisyScore(model, sigma), name="sampling-module")
    return Known(defence, x, y, clean, lambda threat: robust)


# Two random ensembles of linear models: one that randomness protects, one that it only hides.
#
# Patterns s, v, v_1 ... of -1 and 1 are orthogonal. Model i has the score s~ + c v~_i, where s~ is the mean
# of s (x - 0.5), and so on; its l1 norm decides how far a perturbation moves it. Each input is answered by
# a model drawn for it alone.
#
# ``opposed`` has the models s~ + 3 v~ and s~ - 3 v~, images flat along v, and margins m between eps and 3
# eps. Both tell a second bit of the label by another pattern, at a margin of 2 eps, which cannot be turned.
#
# - Draw unknown: the two margins add up to 2 s~, which a perturbation takes to 2 (m - eps) > 0 at worst, so
#   that it never fools both; and moving every pixel against one model takes eps ||s + 3 v||_1 / 64 = 3 eps
#   > m off its margin. The best attack fools one of two: exactly 50%.
# - Draw known: the model drawn is attacked, 0%.
#
# With the second bit there are four classes, of which a constant answer keeps 25%.
#
# ``decoys`` has eight models s~ + 3 v~_i with margins below eps, and a ninth, s~ + 3 v~_9, as base. The
# perturbation that moves every pixel by eps against s takes eps off every margin at once (v_i is orthogonal
# to s): 0%, known or not. But the gradient of each model has the signs of its decoy v_i, because 3 > 1,
# which are orthogonal to s and to the other decoys: an attack on one draw, or on the base, moves no other
# model. Only the average over draws shows s.


DECOY_WEIGHT = 3.0


class RandomMember:
    """Answers each input by a member drawn for it; a draw is int64 [k]."""

    randomised = True
    batch_dependent = False

    def __init__(self, name: str, members: Sequence[nn.Module], base: nn.Module | None = None):
        self.name = name
        self.members = list(members)
        self.base = base

    def images(self, k: int) -> int:
        """All members answer all inputs; which answer counts is the draw."""
        return k * len(self.members)

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
        return torch.randint(len(self.members), (k,), generator=generator)

    def logits(self, x: Tensor, draw: Tensor) -> Tensor:
        answers = torch.stack([member(x) for member in self.members])
        return answers[draw.to(x.device), torch.arange(len(x), device=x.device)]


def known_opposed(n: int = 640, eps: float = 0.05) -> Known:
    shared, conflict, second = linear.pattern(11), linear.pattern(22), linear.pattern(36)
    fine_models = [linear.along(shared + sign * DECOY_WEIGHT * conflict) for sign in (1, -1)]
    coarse = linear.along(second)
    planted = linear.planted_margins(
        linear.spread(1.4 * eps, 2.4 * eps, n), shared, flat_along=[conflict, second]
    )
    x, y = linear.with_coarse_bit(planted, second, 2 * eps)
    fine = y % 2
    # One falls where its worst margin is negative; not both where the shared part keeps its sign.
    one_falls = torch.stack([linear.worst_margins(model, x, fine, eps) < 0 for model in fine_models]).any(0)
    coarse_stands = linear.worst_margins(coarse, x, y // 2, eps) > 0
    not_both = coarse_stands & (linear.worst_margins(linear.along(shared), x, fine, eps) > 0)
    high = (1 - 0.5 * one_falls.double()).mean().item()
    low = (0.5 * not_both.double()).mean().item()
    # Under a known draw an input stands where the member drawn does.
    stands = torch.stack(
        [coarse_stands & (linear.worst_margins(model, x, fine, eps) > 0) for model in fine_models]
    )
    drawn, hidden = exactly(stands.double().mean().item()), Truth(low, high)
    members = [linear.TwoBits(coarse, model) for model in fine_models]
    defence = RandomMember("ensemble-opposed", members)
    clean = exactly(_mean_accuracy(members, x, y))
    return Known(defence, x, y, clean, lambda threat: drawn if threat.endswith("/known") else hidden)


def known_decoys(n: int = 640, eps: float = 0.1) -> Known:
    shared, decoys = linear.pattern(13), [linear.pattern(row) for row in (3, 14, 17, 28, 39, 46, 53, 56, 60)]
    models = [linear.along(shared + DECOY_WEIGHT * decoy) for decoy in decoys]
    members, base = models[:-1], models[-1]
    x, y = linear.planted_margins(linear.spread(0.2 * eps, 0.5 * eps, n), shared, flat_along=decoys)
    against = x - (2 * y - 1).view(-1, 1, 1, 1) * eps * shared
    robust = Truth(0.0, _mean_accuracy(members, against.clamp(0, 1), y))
    defence = RandomMember("ensemble-decoys", members, base)
    return Known(defence, x, y, exactly(_mean_accuracy(members, x, y)), lambda threat: robust)


def _mean_accuracy(members: Sequence[nn.Module], x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return torch.stack([(member(x).argmax(1) == y).double() for member in members]).mean().item()
