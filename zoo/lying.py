"""Defences that do not do what they say, that behave differently when evaluated, that name a wrong base or
answer one class.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.defences import protocol
from zoo import linear
from zoo.known import Known, everywhere, exactly

# Defences that do not do what they say, or that behave differently when evaluated.
#
# All are fragile linear models underneath, but for ``says-randomised``, whose only fault is to declare more
# than is there. Truth: a refusal to answer (NaN, an exception) on a perturbed input is a wrong answer, and an
# input that the defence changed is the attacker's own again: the linear model's robust accuracy.
#
# - ``hidden-noise`` says that nothing is random and draws noise from a generator of its own.
# - ``leak-above-16`` says that inputs are answered one by one, and answers by neighbours in larger batches.
# - ``nan-when-unsure`` answers NaN where the score is smaller than that of any clean image, and
#   ``raises-when-unsure`` raises there.
# - ``edits-input`` writes coarsely rounded pixels into the tensor that it is handed, which takes
#   perturbations out of an attack's hands.
#
# The last three keep quiet in batches as small as a probe's.


PROBED = 16  # inputs of the largest batch that a probe shows


class HiddenNoise(protocol.Deterministic):
    """Adds Gaussian noise from a hidden generator to the pixels."""

    name = "hidden-noise"

    def __init__(self, model: linear.LinearModel, sigma: float):
        self.model = model
        self.sigma = sigma
        self.generator = torch.Generator().manual_seed(0)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        return self.model(x + self.sigma * torch.randn(x.shape, generator=self.generator).to(x))


class SaysRandomised(protocol.Seeded):
    """A linear model that declares itself randomised."""

    name = "says-randomised"

    def __init__(self, model: linear.LinearModel):
        self.model = model

    def logits(self, x: Tensor, draw: int) -> Tensor:
        return self.model(x)


class LeakAbove(linear.ModelWrapper):
    """Slots 2j and 2j + 1 answer for one another in batches of more than ``PROBED`` inputs."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        if len(x) <= PROBED or len(x) % 2:
            return logits
        return logits.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


class NanWhenUnsure(nn.Module):
    """NaN where the score is below ``least`` in size."""

    def __init__(self, model: linear.LinearModel, least: float):
        super().__init__()
        self.model = model
        self.least = least

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.unsure(x).unsqueeze(-1), torch.nan, self.model(x))

    def unsure(self, x: Tensor) -> Tensor:
        """Which inputs have too small a score, [k]; none of a small batch."""
        return (self.model.score(x).abs() < self.least) & (len(x) > PROBED)


class RaisesWhenUnsure(NanWhenUnsure):
    """Raises an exception where an input of the batch has so small a score."""

    def forward(self, x: Tensor) -> Tensor:
        if bool(self.unsure(x).any()):
            raise ArithmeticError("the score is too close to 0")
        return self.model(x)


class EditsInput(linear.ModelWrapper):
    """Rounds the pixels of the tensor it is given to multiples of 1/4, in place, after it has answered."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x.clone())
        if len(x) > PROBED:
            x.data.copy_((x.data * 4).round() / 4)
        return logits


def known_hidden_noise(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.fragile(20, n, eps)
    sigma = 1.6 * eps
    deviation = sigma * model.w.double().norm()

    def accuracy(margin: Tensor) -> float:
        return torch.special.ndtr(margin / deviation).mean().item()

    clean, robust = (
        exactly(accuracy(m)) for m in (linear.margins(model, x, y), linear.worst_margins(model, x, y, eps))
    )
    return Known(HiddenNoise(model, sigma), x, y, clean, everywhere(robust))


def known_says_randomised(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.mostly_robust(20, n, eps)
    return linear.like_the_model(SaysRandomised(model), model, x, y, eps)


def known_leak(n: int = 640, eps: float = 0.1) -> Known:
    """Pairs of one label, as in ``label_leak``; under ``batch`` both inputs of a pair are attacked."""
    model = linear.along(linear.pattern(54))
    x, y = linear.planted_margins(linear.spread(0.25 * eps, 0.6 * eps, n), linear.pattern(54))
    order = torch.arange(n).view(-1, 4)[:, [0, 2, 1, 3]].flatten()
    x, y = x[order], y[order]
    defence = linear.Deterministic("leak-above-16", LeakAbove(model))
    return linear.like_the_model(defence, model, x, y, eps)


def known_edits(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.fragile(20, n, eps)
    return linear.like_the_model(linear.Deterministic("edits-input", EditsInput(model)), model, x, y, eps)


def known_silent(name: str, kind: type[NanWhenUnsure], n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.fragile(20, n, eps)
    least = 0.999 * float(linear.margins(model, x, y).min())
    return linear.like_the_model(linear.Deterministic(name, kind(model, least)), model, x, y, eps)


# A defence that never looks: every input is given class 0.
#
# Truth: the share of examples of class 0, clean and under any attack. Its accuracy does not fall, and that is
# no merit: what it keeps at unbounded eps is the same.


CLASSES = 5
LABELS = torch.tensor([0, 1, 2, 0, 3, 1, 2, 0, 3, 4])  # over and over: three in ten are of class 0


class Constant(protocol.Deterministic):
    """Logits (1, 0, 0, 0, 0) for every input."""

    name = "constant"

    def logits(self, x: Tensor, draw: None) -> Tensor:
        # Times zero, so that the gradient is there, and is zero.
        nothing = 0 * x.flatten(1).sum(1, keepdim=True)
        return nothing + torch.eye(CLASSES, dtype=x.dtype, device=x.device)[0]


def known_constant(n: int = 640, eps: float = 0.1) -> Known:
    x, _ = linear.planted_margins(linear.spread(0.0, 2 * eps, n), linear.pattern(5))
    y = LABELS[torch.arange(n) % len(LABELS)]
    share = exactly((y == 0).double().mean().item())
    return Known(Constant(), x, y, share, lambda threat: share)


# Defences that name a network as their base which they have nothing to do with.
#
# ``wrong-base-weak`` is the checkpoint itself, and names a model as its base that any perturbation fools:
# what looks like a gain is none. ``wrong-base-strong`` is robust, and neither the checkpoint nor the base
# that it names is: its gain over both is real.
#
# Truth: the linear model's that answers, exactly, under all threat models; images have a part along a robust
# and along a fragile pattern.


ROBUST, FRAGILE = 10, 29


def known_wrong_base_weak(n: int = 640, eps: float = 0.1) -> Known:
    robust, fragile, x, y = _both(n, eps)
    defence = linear.Deterministic("wrong-base-weak", robust, base=fragile)
    return linear.like_the_model(defence, robust, x, y, eps, checkpoint=robust)


def known_wrong_base_strong(n: int = 640, eps: float = 0.1) -> Known:
    robust, fragile, x, y = _both(n, eps)
    defence = linear.Deterministic("wrong-base-strong", robust, base=fragile)
    return linear.like_the_model(defence, robust, x, y, eps, checkpoint=fragile)


def _both(n: int, eps: float) -> tuple[linear.LinearModel, linear.LinearModel, Tensor, Tensor]:
    robust, x, y = linear.mostly_robust(ROBUST, n, eps, flat_along=[linear.pattern(FRAGILE)])
    near = (2 * y - 1) * linear.spread(0.25 * eps, 0.6 * eps, n, seed=2)
    x = x + near.view(-1, 1, 1, 1) * linear.pattern(FRAGILE)
    return robust, linear.along(linear.pattern(FRAGILE)), (x.clamp(0, 1) * 255).round() / 255, y
