"""Linear models that hide their gradients: those that gain nothing by it, and those that need not hide.

Truth: each answers exactly as a linear model does, so robust accuracy is the share of inputs whose worst
margin is positive. With margins below eps there is none; where four inputs in five are further from the
boundary than eps it is 80%, and no slope, right or wrong, changes that. ``rounding`` answers as a model whose
pixels are rounded first; ``shattered`` adds a ripple that is smaller than every worst margin, and so never
decides. Nothing is random and inputs are answered one by one, so all threat models are the same.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.zoo.deterministic import Deterministic, like_the_model, with_slope_of
from robustbench_coded.zoo.known import Known, everywhere, exactly
from robustbench_coded.zoo.linear import (
    LinearModel,
    along,
    fragile,
    margins,
    mostly_robust,
    pattern,
    two_logits,
)

LEVELS = 16
SEEN, DECOY = 63, 26


class Rounded(nn.Module):
    """Rounds pixels to multiples of 1/LEVELS before the model: the gradient is zero everywhere."""

    def __init__(self, model: LinearModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(rounded(x))


class Scaled(nn.Module):
    """Multiplies the logits by 10,000: probabilities round to 0 and 1, cross-entropy has no slope left."""

    def __init__(self, model: LinearModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * self.model(x)


class Reversed(nn.Module):
    """Has the model's logits and the opposite of its gradient: steps uphill go down."""

    def __init__(self, model: LinearModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return with_slope_of(logits, -logits)


class OneHot(nn.Module):
    """A hard answer, 10 for the model's class and 0 for the others, with the slope of another model."""

    def __init__(self, model: nn.Module, decoy: nn.Module):
        super().__init__()
        self.model = model
        self.decoy = decoy

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        hard = functional.one_hot(logits.argmax(-1), logits.shape[-1])
        return with_slope_of(10.0 * hard.to(x), self.decoy(x))


class Lifted(nn.Module):
    """The logits of a decoy, bounded, with the model's class lifted above them: the slope is no lie.

    Within a region of one class the logits are smooth and move as their gradients say; the model shows in the
    jump from one region to the next alone.
    """

    def __init__(self, model: nn.Module, decoy: nn.Module):
        super().__init__()
        self.model = model
        self.decoy = decoy

    def forward(self, x: Tensor) -> Tensor:
        shown = self.decoy(x).tanh()
        return shown + 2.5 * functional.one_hot(self.model(x).argmax(-1), shown.shape[-1]).to(x)


class Rippled(nn.Module):
    """Adds a small sine of very short period along a pattern to the score: its slope is all that shows.

    Args:
        height: of the sine, in units of the score. period: in units of the watched pattern's score.
    """

    def __init__(self, model: LinearModel, watched: LinearModel, height: float, period: float):
        super().__init__()
        self.model = model
        self.watched = watched
        self.height = height
        self.period = period

    def forward(self, x: Tensor) -> Tensor:
        phase = 2 * torch.pi * self.watched.score(x) / self.period
        return two_logits(self.model.gain * (self.model.score(x) + self.height * phase.sin()))


class NoNumber(nn.Module):
    """Has the model's logits and NaN for a gradient, as a square root at 0 leaves it."""

    def __init__(self, model: LinearModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        nothing = (0 * x).flatten(1).sum(1, keepdim=True).sqrt()
        return with_slope_of(self.model(x), self.model(x) + nothing)


def rounded(x: Tensor) -> Tensor:
    """Pixels rounded to multiples of 1/LEVELS."""
    return (x * LEVELS).round() / LEVELS


def known_rounding(n: int = 640, eps: float = 0.1) -> Known:
    """Rounds the pixels before the model.

    Rounding grows with its pixel, so the worst of all rounded points is the rounding of the worst point.
    """
    model, x, y = fragile(SEEN, n, eps)
    worst = x.double() - (2 * y - 1).view(-1, 1, 1, 1) * model.w.double().sign() * eps
    robust = (margins(model, rounded(worst.clamp(0, 1)), y) > 0).double().mean().item()
    clean = (margins(model, rounded(x.double()), y) > 0).double().mean().item()
    defence = Deterministic("rounding", Rounded(model), base=model)
    return Known(defence, x, y, 128, exactly(clean), everywhere(exactly(robust)))


def known_saturated(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = fragile(SEEN, n, eps)
    return like_the_model(Deterministic("saturated", Scaled(model), base=model), model, x, y, eps)


def known_saturated_wide(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = mostly_robust(SEEN, n, eps)
    return like_the_model(Deterministic("saturated-wide", Scaled(model)), model, x, y, eps)


def known_misleading(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = fragile(SEEN, n, eps)
    return like_the_model(Deterministic("misleading-gradient", Reversed(model), base=model), model, x, y, eps)


def known_one_hot_wide(n: int = 640, eps: float = 0.1) -> Known:
    """Hard answers and the slope of a model that has no part in them, and yet robust."""
    model, x, y = mostly_robust(SEEN, n, eps)
    defence = Deterministic("one-hot-wide", OneHot(model, along(pattern(DECOY))))
    return like_the_model(defence, model, x, y, eps)


def known_lifted(n: int = 640, eps: float = 0.1) -> Known:
    """Gradients and differences of logits agree everywhere, and none of them is the model's."""
    model, x, y = fragile(SEEN, n, eps)
    return like_the_model(Deterministic("lifted", Lifted(model, along(pattern(DECOY)))), model, x, y, eps)


def known_shattered(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = fragile(SEEN, n, eps)
    return like_the_model(Deterministic("shattered", _rippled(model, eps)), model, x, y, eps)


def known_shattered_wide(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = mostly_robust(SEEN, n, eps)
    return like_the_model(Deterministic("shattered-wide", _rippled(model, eps)), model, x, y, eps)


def known_no_number(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = fragile(SEEN, n, eps)
    return like_the_model(Deterministic("nan-gradient", NoNumber(model)), model, x, y, eps)


def _rippled(model: LinearModel, eps: float) -> Rippled:
    return Rippled(model, along(pattern(DECOY)), height=0.05 * eps, period=0.001 * eps)
