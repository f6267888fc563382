"""Defences that may reject an input instead of classifying it: index ``abstain`` of the logits.

A rejected clean input is an error. A rejected perturbed one is not, unless its clean input is rejected or
answered wrongly: then the attacker leaves it alone.

- ``abstain-unsure`` rejects where the score is below 1.2 eps in size. Truth: clean inputs with a larger
  margin are answered, and no perturbation takes one to the other side of the band, which is wider than
  eps: they are right or rejected. The others are rejected clean. Exactly the share of margins above 1.2 eps.
- ``abstain-always`` rejects everything. Truth: 0%, clean and perturbed.
- ``abstain-off-grid`` rejects inputs with a pixel that is no multiple of 1/255. Truth: perturbations of whole
  steps cost an attacker less than 1/255 of eps, and the model underneath is fragile: 0%.
- ``abstain-off-manifold`` rejects inputs with a part along a pattern that no clean image has, and has the
  slope of the model s + 3 v, whose steps are all along that pattern v. Truth: the step straight against s has
  no such part and fools the fragile model underneath: 0%.
"""

import torch
from torch import Tensor, nn

from zoo import linear
from zoo.attack_aware import OffGrid
from zoo.known import Known, everywhere, exactly

REJECT = 2  # after the two classes
DECOY = 33


class Abstaining(linear.Deterministic):
    """A function of pixels whose last logit rejects."""

    abstain = REJECT


class Unsure(nn.Module):
    """The model's two logits and a third that is larger than both where the score is below ``least``."""

    def __init__(self, model: linear.LinearModel, least: float):
        super().__init__()
        self.model = model
        self.least = least

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        reject = torch.full_like(logits[:, :1], self.model.gain * self.least / 2)
        return torch.cat([logits, reject], -1)


class Always(linear.ModelWrapper):
    """Rejects whatever it is shown."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return torch.cat([logits, logits.amax(-1, keepdim=True) + 1], -1)


class RejectsOffGrid(linear.ModelWrapper):
    """Rejects inputs with pixels that are not of 8 bits."""

    off = OffGrid()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        top = logits.detach().amax(-1, keepdim=True)
        return torch.cat([logits, torch.where(self.off(x).unsqueeze(-1), top + 5, top - 5)], -1)


class OffManifold(nn.Module):
    """Rejects what has a part along ``watched``, to which all of its slope points."""

    def __init__(self, model: linear.LinearModel, watched: linear.LinearModel, most: float):
        super().__init__()
        self.model = model
        self.watched = watched
        self.most = most
        self.decoy = linear.LinearModel(model.w + 3 * watched.w, model.bias + 3 * watched.bias)

    def forward(self, x: Tensor) -> Tensor:
        logits = linear.with_slope_of(self.model(x), self.decoy(x))
        off = (self.watched.score(x).abs() > self.most).unsqueeze(-1)
        reject = torch.where(off, logits.detach().amax(-1, keepdim=True) + 5, -5.0)
        return torch.cat([logits, reject], -1)


def known_unsure(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.mostly_robust(12, n, eps)
    least = 1.2 * eps
    share = exactly((linear.margins(model, x, y) > least).double().mean().item())
    return Known(Abstaining("abstain-unsure", Unsure(model, least)), x, y, share, everywhere(share))


def known_always(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.mostly_robust(12, n, eps)
    nothing = exactly(0.0)
    return Known(Abstaining("abstain-always", Always(model)), x, y, nothing, everywhere(nothing))


def known_off_grid(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.fragile(12, n, eps)
    clean = exactly((linear.margins(model, x, y) > 0).double().mean().item())
    robust = linear.standing(model, x, y, int(255 * eps) / 255)
    return Known(Abstaining("abstain-off-grid", RejectsOffGrid(model)), x, y, clean, everywhere(robust))


def known_off_manifold(n: int = 640, eps: float = 0.1) -> Known:
    model, x, y = linear.fragile(12, n, eps, flat_along=[linear.pattern(DECOY)])
    defence = Abstaining(
        "abstain-off-manifold", OffManifold(model, linear.along(linear.pattern(DECOY)), 0.3 * eps)
    )
    clean = exactly((linear.margins(model, x, y) > 0).double().mean().item())
    return Known(defence, x, y, clean, everywhere(linear.standing(model, x, y, eps)))
