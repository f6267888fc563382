"""What most of the zoo is built on: two classes told apart by a linear score at margins set in advance, and
defences that are functions of their pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.linalg import hadamard
from torch import Tensor, nn

from robustbench_coded.defences import protocol
from zoo.known import Known, Truth, everywhere, exactly

SIDE = 8
PIXELS = SIDE * SIDE
GAIN = 30.0  # logits per unit of margin; large enough for cross-entropy to tell margins of 0.1 apart


class LinearModel(nn.Module):
    """Logits (-s/2, s/2) with s = gain * (w . x + bias): class 1 where w . x + bias > 0.

    Args:
        w: one weight a pixel, [C, H, W].
        bias: added to w . x.
        gain: scale of the logits; it changes no answer.
    """

    w: Tensor

    def __init__(self, w: Tensor, bias: float, gain: float = GAIN):
        super().__init__()
        self.register_buffer("w", w)
        self.bias = bias
        self.gain = gain

    def score(self, x: Tensor) -> Tensor:
        """w . x + bias, [k]."""
        return (x * self.w.to(x)).flatten(1).sum(1) + self.bias

    def forward(self, x: Tensor) -> Tensor:
        return two_logits(self.gain * self.score(x))


class TwoBits(nn.Module):
    """Four classes, 2 b + a: `coarse` tells bit b, `fine` bit a. Logits add up, so both must be right.

    Half of four classes is twice what a constant answer keeps; half of two is no more than that.
    """

    def __init__(self, coarse: LinearModel, fine: LinearModel):
        super().__init__()
        self.coarse = coarse
        self.fine = fine

    def forward(self, x: Tensor) -> Tensor:
        return (self.coarse(x)[:, :, None] + self.fine(x)[:, None, :]).flatten(1)


def two_logits(score: Tensor) -> Tensor:
    """A score [k], positive for class 1, as logits [k, 2]."""
    return torch.stack([-score / 2, score / 2], dim=-1)


def pattern(row: int) -> Tensor:
    """The ``row``-th of 64 orthogonal patterns of -1 and 1, float32 [1, 8, 8]; number 0 is all ones."""
    return torch.from_numpy(hadamard(PIXELS)[row]).float().view(1, SIDE, SIDE)


def against(y: Tensor, direction: Tensor) -> Tensor:
    """Where an image loses most of its margin along ``direction``: signed by its label, [n, 1, 8, 8]."""
    return -(2 * y - 1).view(-1, 1, 1, 1) * direction


def along(direction: Tensor) -> LinearModel:
    """The model whose score is the mean of ``direction`` * (x - 0.5) over the pixels.

    For a ``direction`` of -1 and 1 the score is the l-infinity distance to the decision boundary.
    """
    w = direction / PIXELS
    return LinearModel(w, bias=-0.5 * float(w.sum()))


class Planted(NamedTuple):
    """Images float32 [n, 1, 8, 8], labels int64 [n]."""

    x: Tensor
    y: Tensor


def planted_margins(
    margins: Tensor,
    direction: Tensor,
    *,
    flat_along: Sequence[Tensor] = (),
    texture: float = 0.1,
    seed: int = 0,
) -> Planted:
    """Images at given margins from the boundary of ``along(direction)``, alternately of class 0 and 1.

    Each image is grey plus the margin along ``direction`` plus a random texture that has no part along
    ``direction`` and ``flat_along``. Rounding to multiples of 1/255 moves margins by less than 0.001; what
    follows computes with the images as they are.

    Args:
        margins: [n]; the largest plus the texture plus eps must stay below 0.5 where the box is not to
            matter.
        direction, flat_along: orthogonal patterns of -1 and 1.
        texture: standard deviation of the texture, in pixel units; it is cut off at twice that.
    """
    n = len(margins)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 1, SIDE, SIDE, generator=generator)
    for fixed in (direction, *flat_along):
        noise = noise - (noise * fixed).mean(dim=(1, 2, 3), keepdim=True) * fixed
    largest = noise.abs().amax(dim=(1, 2, 3), keepdim=True)
    noise = texture * noise * (2 / largest).clamp(max=1)
    y = torch.arange(n) % 2
    signed = (2 * y - 1) * margins
    x = 0.5 + signed.view(-1, 1, 1, 1) * direction + noise
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"expected images in [0, 1], got [{x.min():g}, {x.max():g}]")
    return Planted((x * 255).round() / 255, y)


def with_coarse_bit(planted: Planted, direction: Tensor, margin: float) -> Planted:
    """The images at ``margin`` along ``direction`` too, and labels of four classes for `TwoBits`.

    ``direction`` is one of those that the images are flat along. All four combinations are as frequent.
    """
    coarse = torch.arange(len(planted.y)) // 2 % 2
    x = planted.x + margin * (2 * coarse - 1).view(-1, 1, 1, 1) * direction
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"expected images in [0, 1], got [{x.min():g}, {x.max():g}]")
    return Planted((x * 255).round() / 255, 2 * coarse + planted.y)


def spread(low: float, high: float, n: int, seed: int = 1) -> Tensor:
    """n margins evenly from ``low`` to ``high``, shuffled."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return torch.linspace(low, high, n)[order]


def fragile(
    row: int, n: int, eps: float, *, flat_along: Sequence[Tensor] = ()
) -> tuple[LinearModel, Tensor, Tensor]:
    """A model along pattern ``row`` with images at margins of 0.25 to 0.6 ``eps``: each can be fooled."""
    return along(pattern(row)), *planted_margins(
        spread(0.25 * eps, 0.6 * eps, n), pattern(row), flat_along=flat_along
    )


def mostly_robust(
    row: int, n: int, eps: float, *, flat_along: Sequence[Tensor] = ()
) -> tuple[LinearModel, Tensor, Tensor]:
    """The same with margins of 1.4 to 2.2 ``eps`` for four images in five: these can't be fooled."""
    few = torch.arange(n) % 5 == 0
    distances = torch.where(few, spread(0.25 * eps, 0.6 * eps, n), spread(1.4 * eps, 2.2 * eps, n))
    return along(pattern(row)), *planted_margins(distances, pattern(row), flat_along=flat_along)


def margins(model: LinearModel, x: Tensor, y: Tensor) -> Tensor:
    """The score towards the right class, float64 [n]: positive where the answer is right."""
    score = (x.double() * model.w.double()).flatten(1).sum(1) + model.bias
    return score * (2 * y - 1)


def worst_margins(model: LinearModel, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The smallest margin in the l-infinity ball of radius ``eps`` within the box [0, 1], float64 [n].

    A linear score is a sum over pixels, so each pixel goes to the end of its own interval that is worse:
    exact.
    """
    towards = model.w.double() * (2 * y - 1).view(-1, 1, 1, 1)
    x = x.double()
    worst = torch.where(towards > 0, (x - eps).clamp(min=0), (x + eps).clamp(max=1))
    return margins(model, worst, y)


class Deterministic(protocol.Deterministic):
    """Answers by ``answer``, a module from pixels [k, C, H, W] to logits [k, classes]."""

    def __init__(self, name: str, answer: nn.Module, base: nn.Module | None = None):
        self.name = name
        self.answer = answer
        self.base = base

    def logits(self, x: Tensor, draw: None) -> Tensor:
        return self.answer(x)


class InBatches(protocol.Deterministic):
    """Answers every input by its batch, and nothing random."""

    batch_dependent = True


class ModelWrapper(nn.Module):
    """Answers as a model does, in a form of its own."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model


class WithDecoy(ModelWrapper):
    """The same, and has the slope of another model."""

    def __init__(self, model: nn.Module, decoy: nn.Module):
        super().__init__(model)
        self.decoy = decoy


def with_slope_of(values: Tensor, carrier: Tensor) -> Tensor:
    """The values, bit by bit, with the gradient of ``carrier``."""
    return values.detach() + (carrier - carrier.detach())


def standing(model: LinearModel, x: Tensor, y: Tensor, eps: float) -> Truth:
    """The exact share of inputs that no perturbation within ball and box takes across the boundary."""
    return exactly((worst_margins(model, x, y, eps) > 0).double().mean().item())


def like_the_model(
    defence: protocol.Defence,
    model: LinearModel,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    checkpoint: nn.Module | None = None,
) -> Known:
    """What is known of a defence whose answers are those of a linear model, whatever its slopes are."""
    clean = exactly((margins(model, x, y) > 0).double().mean().item())
    return Known(defence, x, y, clean, everywhere(standing(model, x, y, eps)), checkpoint=checkpoint)
