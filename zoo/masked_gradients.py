"""Linear models that hide their gradients, rounding that protects, and a weakness that no gradient points to
(arXiv 2206.13991).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences import protocol
from zoo import linear
from zoo.known import Known, everywhere, exactly

# Linear models that hide their gradients: those that gain nothing by it, and those that need not hide.
#
# Truth: each answers exactly as a linear model does, so robust accuracy is the share of inputs whose worst
# margin is positive. With margins below eps there is none; where four inputs in five are further from the
# boundary than eps it is 80%, and no slope, right or wrong, changes that. ``rounding`` answers as a model
# whose pixels are rounded first; ``shattered`` adds a ripple that is smaller than every worst margin, and so
# never decides. Nothing is random and inputs are answered one by one, so all threat models are the same.


LEVELS = 16
SEEN, DECOY = 63, 26


class Rounded(linear.ModelWrapper):
    """Rounds pixels to multiples of 1/LEVELS before the model: the gradient is zero everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return self.model(rounded(x))


class Scaled(linear.ModelWrapper):
    """Multiplies the logits by 10,000: probabilities round to 0 and 1, cross-entropy has no slope left."""

    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * self.model(x)


class Reversed(linear.ModelWrapper):
    """Has the model's logits and the opposite of its gradient: steps uphill go down."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return linear.with_slope_of(logits, -logits)


class OneHot(linear.WithDecoy):
    """A hard answer, 10 for the model's class and 0 for the others, with the slope of another model."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        hard = functional.one_hot(logits.argmax(-1), logits.shape[-1])
        return linear.with_slope_of(10.0 * hard.to(x), self.decoy(x))


class Lifted(linear.WithDecoy):
    """The logits of a decoy, bounded, with the model's class lifted above them: the slope is no lie.

    Within a region of one class the logits are smooth and move as their gradients say; the model shows in the
    jump from one region to the next alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        shown = self.decoy(x).tanh()
        return shown + 2.5 * functional.one_hot(self.model(x).argmax(-1), shown.shape[-1]).to(x)


class Rippled(nn.Module):
    """Adds a small sine of very short period along a pattern to the score: its slope is all that shows.

    Args:
        height: of the sine, in units of the score. period: in units of the watched pattern's score.
    """

    def __init__(self, model: linear.LinearModel, watched: linear.LinearModel, height: float, period: float):
        super().__init__()
        self.model = model
        self.watched = watched
        self.height = height
        self.period = period

    def forward(self, x: Tensor) -> Tensor:
        phase = 2 * torch.pi * self.watched.score(x) / self.period
        return linear.two_logits(self.model.gain * (self.model.score(x) + self.height * phase.sin()))


class NoNumber(linear.ModelWrapper):
    """Has the model's logits and NaN for a gradient, as a square root at 0 leaves it."""

    def forward(self, x: Tensor) -> Tensor:
        nothing = (0 * x).flatten(1).sum(1, keepdim=True).sqrt()
        return linear.with_slope_of(self.model(x), self.model(x) + nothing)


def rounded(x: Tensor) -> Tensor:
    """Pixels rounded to multiples of 1/LEVELS."""
    return (x * LEVELS).round() / LEVELS


def known_rounding(n: int = 640, eps: float = 0.1) -> Known:
    """Rounds the pixels before the model.

    Rounding grows with its pixel, so the worst of all rounded points is the rounding of the worst point.
    """
    model, x, y = linear.fragile(SEEN, n, eps)
    worst = x.double() - (2 * y - 1).view(-1, 1, 1, 1) * model.w.double().sign() * eps
    robust = (linear.margins(model, rounded(worst.clamp(0, 1)), y) > 0).double().mean().item()
    clean = (linear.margins(model, rounded(x.double()), y) > 0).double().mean().item()
    defence = linear.Deterministic("rounding", Rounded(model), base=model)
    return Known(defence, x, y, exactly(clean), everywhere(exactly(robust)))


def known_hidden(
    name: str,
    kind: Callable[[linear.LinearModel], nn.Module],
    n: int = 640,
    eps: float = 0.1,
    *,
    images: Callable[[int, int, float], tuple[linear.LinearModel, Tensor, Tensor]] = linear.fragile,
    base: bool = False,
) -> Known:
    """A linear model behind ``kind``, which hides its slope; ``base`` names it as the defence's base."""
    model, x, y = images(SEEN, n, eps)
    defence = linear.Deterministic(name, kind(model), base=model if base else None)
    return linear.like_the_model(defence, model, x, y, eps)


known_hidden_wide = partial(known_hidden, images=linear.mostly_robust)
known_hidden_base = partial(known_hidden, base=True)


def known_shattered(n: int = 640, eps: float = 0.1) -> Known:
    return known_hidden("shattered", partial(_rippled, eps=eps), n, eps)


def known_shattered_wide(n: int = 640, eps: float = 0.1) -> Known:
    return known_hidden_wide("shattered-wide", partial(_rippled, eps=eps), n, eps)


def hard_answers(model: linear.LinearModel) -> OneHot:
    """Hard answers, and the slope of a model that has no part in them."""
    return OneHot(model, linear.along(linear.pattern(DECOY)))


def lifted(model: linear.LinearModel) -> Lifted:
    """Gradients and differences of logits agree everywhere, and none of them is the model's."""
    return Lifted(model, linear.along(linear.pattern(DECOY)))


def _rippled(model: linear.LinearModel, eps: float) -> Rippled:
    return Rippled(model, linear.along(linear.pattern(DECOY)), height=0.05 * eps, period=0.001 * eps)


# Pixels rounded so coarsely that no perturbation gets through, before a model that any would fool.
#
# Images lie on multiples of 1/COARSE_LEVELS and a perturbation is smaller than half that distance, so
# rounding takes it away altogether: every answer within the ball is the clean one. Truth: clean accuracy,
# 90%, as one label in ten is wrong, exactly, under all threat models. The model without the rounding falls
# everywhere: its margins are below eps. Gradients are zero everywhere, here with reason.


COARSE_LEVELS = 4
MISLABELLED = 10  # one in so many


class CoarselyRounded(linear.ModelWrapper):
    """Rounds pixels to multiples of 1/COARSE_LEVELS before the model."""

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x * COARSE_LEVELS).round() / COARSE_LEVELS)


def known_coarse_rounding(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 0.031 (two pixels of 64, one level each off) or 0.047."""
    if eps >= 0.5 / COARSE_LEVELS:
        raise ValueError(f"expected eps below {0.5 / COARSE_LEVELS}, half a level, got {eps}")
    direction = linear.pattern(22)
    model = linear.along(direction)
    x, answers = _images(direction, n)
    y = torch.where(torch.arange(n) % MISLABELLED == 3, 1 - answers, answers)
    share = exactly((answers == y).double().mean().item())
    defence = linear.Deterministic("coarse-rounding", CoarselyRounded(model), base=model)
    return Known(defence, x, y, share, everywhere(share))


def _images(direction: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Images on the grid with a small score, alternately of either sign, and their classes.

    Pairs of pixels on opposite sides of the pattern move together, which leaves the score at 0; then eight or
    twelve pixels move one level towards the class.
    """
    generator = torch.Generator().manual_seed(0)
    flat = direction.flatten()
    up, down = (flat > 0).nonzero().squeeze(1), (flat < 0).nonzero().squeeze(1)
    classes = torch.arange(n) % 2
    x = torch.full((n, flat.numel()), 0.5)
    for row, answer in zip(x, classes.tolist(), strict=True):
        order = torch.randperm(len(up), generator=generator)
        level = (torch.randint(-1, 2, (len(up),), generator=generator)) / COARSE_LEVELS
        row[up[order]] += level
        row[down] += level
        towards = flat if answer else -flat
        moved = torch.randperm(flat.numel(), generator=generator)[: 8 + 4 * (answer ^ 1)]
        row[moved] += towards[moved] / COARSE_LEVELS
    return x.view(n, *direction.shape), classes


# A weakness that no gradient points to: a step along a flat direction turns the answer around.
#
# The point of the binarization test (arXiv 2206.13991): an attack that follows gradients may miss adversarial
# examples that are there by construction and that random search finds.
#
# The score is a linear model's with margins above eps. A second pattern v, orthogonal to the model's, is
# watched: where the mean of v (x - 0.5) exceeds a threshold, in either direction, the score changes its sign.
# That step has no slope.
#
# Truth: images are flat along v, so the perturbation eps v moves that mean from 0 to eps, above the
# threshold, and the score not at all: every input falls, robust accuracy is 0%. Random signs of size eps move
# it by eps / 8 times a standard normal number, nearly; with the threshold at 1.5 of these, 13% of random sign
# perturbations succeed, and a search of a hundred finds one for every input. Nothing is random and inputs are
# answered one by one.


class HiddenDirection(protocol.Deterministic):
    """Answers by ``model``, and the other way round where ``watched`` exceeds ``threshold`` in size."""

    name = "hidden-direction"

    def __init__(self, model: linear.LinearModel, watched: linear.LinearModel, threshold: float):
        self.model = model
        self.watched = watched
        self.threshold = threshold
        self.base: nn.Module | None = model

    def logits(self, x: Tensor, draw: None) -> Tensor:
        score = self.model.gain * self.model.score(x)
        return linear.two_logits(torch.where(self.watched.score(x).abs() > self.threshold, -score, score))


def known_hidden_direction(n: int = 640, eps: float = 0.1) -> Known:
    seen, hidden = linear.pattern(7), linear.pattern(28)
    x, y = linear.planted_margins(linear.spread(1.3 * eps, 1.8 * eps, n), seen, flat_along=[hidden])
    defence = HiddenDirection(
        linear.along(seen), linear.along(hidden), threshold=1.5 * eps / linear.PIXELS**0.5
    )
    with torch.no_grad():
        clean = (defence.logits(x, None).argmax(1) == y).double().mean().item()
        fooled = (defence.logits((x + eps * hidden).clamp(0, 1), None).argmax(1) != y).double().mean().item()
    return Known(defence, x, y, exactly(clean), lambda threat: exactly(1 - fooled))
