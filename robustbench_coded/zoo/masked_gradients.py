"""Three linear models that hide their gradients and gain nothing by it.

Truth: each answers exactly as a linear model does, ``rounding`` as one whose pixels are rounded first. So
robust accuracy is the share of inputs whose worst margin is positive; with margins below eps there is none.
Nothing is random and inputs are answered one by one, so all threat models are the same.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.known import Known, exactly
from robustbench_coded.zoo.linear import (
    LinearModel,
    along,
    margins,
    pattern,
    planted_margins,
    spread,
    worst_margins,
)

LEVELS = 16


class Masked:
    """A function of pixels whose answers are a linear model's; that model is its base."""

    randomised = False
    batch_dependent = False

    def __init__(self, name: str, model: LinearModel, answer: Callable[[Tensor], Tensor]):
        self.name = name
        self.base: nn.Module | None = model
        self.answer = answer

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        return self.answer(x)


def rounded(x: Tensor) -> Tensor:
    """Pixels rounded to multiples of 1/LEVELS: the gradient is zero everywhere."""
    return (x * LEVELS).round() / LEVELS


def known_rounding(n: int = 640, eps: float = 0.1) -> Known:
    """Rounds the pixels before the model.

    Rounding grows with its pixel, so the worst of all rounded points is the rounding of the worst point.
    """
    model, x, y = _narrow(n, eps)
    worst = x.double() - (2 * y - 1).view(-1, 1, 1, 1) * model.w.double().sign() * eps
    robust = (margins(model, rounded(worst.clamp(0, 1)), y) > 0).double().mean().item()
    clean = (margins(model, rounded(x.double()), y) > 0).double().mean().item()
    defence = Masked("rounding", model, lambda pixels: model(rounded(pixels)))
    return Known(defence, x, y, 128, exactly(clean), lambda threat: exactly(robust))


def known_saturated(n: int = 640, eps: float = 0.1) -> Known:
    """Multiplies the logits by 10,000: probabilities round to 0 and 1 and cross-entropy has no slope left."""
    model, x, y = _narrow(n, eps)
    defence = Masked("saturated", model, lambda pixels: 1e4 * model(pixels))
    return _like_the_model(defence, model, x, y, eps)


def known_misleading(n: int = 640, eps: float = 0.1) -> Known:
    """Has the model's logits and the opposite of its gradient: steps uphill go down."""
    model, x, y = _narrow(n, eps)

    def answer(pixels: Tensor) -> Tensor:
        logits = model(pixels)
        return 2 * logits.detach() - logits

    return _like_the_model(Masked("misleading-gradient", model, answer), model, x, y, eps)


def _narrow(n: int, eps: float) -> tuple[LinearModel, Tensor, Tensor]:
    model = along(pattern(63))
    return model, *planted_margins(spread(0.25 * eps, 0.6 * eps, n), pattern(63))


def _like_the_model(defence: Masked, model: LinearModel, x: Tensor, y: Tensor, eps: float) -> Known:
    robust = (worst_margins(model, x, y, eps) > 0).double().mean().item()
    clean = (margins(model, x, y) > 0).double().mean().item()
    return Known(defence, x, y, 128, exactly(clean), lambda threat: exactly(robust))
