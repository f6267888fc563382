"""Defences that tell an attack, or an evaluation, from use, and only then are good.

Each has a fragile model s and a robust one u, whose margins exceed eps: images have a part along both
patterns. What is noticed decides which of the two answers, and each is wrong about what an attacker must do.

- ``edge-only`` looks at four corner pixels, which are grey in clean images: if one is off by more than 0.95
  eps, the robust model answers. ``edge-wide`` does the same with two robust models.
- ``off-manifold`` looks for a part along a pattern v that clean images lack; its slope is that of s + 3 v,
  along which all steps of a gradient's signs go.
- ``off-grid`` looks for pixels that are no multiples of 1/255.
- ``grad-mode`` lets the robust model answer while gradients are recorded, ``train-mode`` while its own
  network is in training mode, as it is until ``eval()`` is called, and ``call-count`` has the model's
  true slope for its first calls with gradients alone, later a decoy's.

Truth: where the robust model answers an input stands, so an attacker keeps the fragile one answering: by
leaving the corners alone, which costs 4 of 64 pixels' worth of margin; by steps straight against s, which
have no part along v; by perturbations that are rounded, which cost less than 1/255; gradients recorded or
not, the answer in use, without them, is s. The shares below are the worst margins under exactly those
restrictions: a proven upper end, which is 0.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.deterministic import Deterministic, with_slope_of
from robustbench_coded.zoo.known import Known, Truth, everywhere, exactly
from robustbench_coded.zoo.linear import (
    LinearModel,
    against,
    along,
    pattern,
    planted_margins,
    spread,
    worst_margins,
)

FRAGILE, ROBUST, WATCHED = 35, 48, 21
CORNERS = (0, 7, 56, 63)
CALLS = 4  # as many as the probe differentiates
GRID = 1e-4  # a pixel further than this from a multiple of 1/255, in steps of 1/255, is off the grid


class Gated(nn.Module):
    """Answers by ``robust`` where ``noticed`` says so, else by ``fragile``."""

    def __init__(self, fragile: nn.Module, robust: nn.Module, noticed: nn.Module):
        super().__init__()
        self.fragile = fragile
        self.robust = robust
        self.noticed = noticed

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.noticed(x).unsqueeze(-1), self.robust(x), self.fragile(x))


class Edge(nn.Module):
    """Whether a corner pixel is off grey by more than ``most``."""

    def __init__(self, most: float):
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1)[:, CORNERS] - 0.5).abs().amax(1) > self.most


class Part(nn.Module):
    """Whether there is a part along ``watched`` of more than ``most``."""

    def __init__(self, watched: LinearModel, most: float):
        super().__init__()
        self.watched = watched
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        return self.watched.score(x).abs() > self.most


class OffGrid(nn.Module):
    """Whether a pixel is no multiple of 1/255."""

    def forward(self, x: Tensor) -> Tensor:
        levels = x * 255
        return (levels - levels.round()).abs().flatten(1).amax(1) > GRID * 255


class GradMode(nn.Module):
    """Whether gradients are recorded."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), torch.is_grad_enabled(), device=x.device)


class TrainMode(nn.Module):
    """Whether this module is in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), self.training, device=x.device)


class DecoyLater(nn.Module):
    """The model's answers, with its own slope for the first calls with gradients, then with a decoy's."""

    def __init__(self, model: LinearModel, decoy: LinearModel):
        super().__init__()
        self.model = model
        self.decoy = decoy
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += torch.is_grad_enabled()
        logits = self.model(x)
        return logits if self.calls <= CALLS else with_slope_of(logits, self.decoy(x))


class Slope(nn.Module):
    """The answers of a model with the slope of another."""

    def __init__(self, model: LinearModel, carrier: LinearModel):
        super().__init__()
        self.model = model
        self.carrier = carrier

    def forward(self, x: Tensor) -> Tensor:
        return with_slope_of(self.model(x), self.carrier(x))


def known_edge(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _grey_corners(*_images(n, eps))
    defence = Deterministic("edge-only", Gated(fragile_model(), robust_model(), Edge(0.95 * eps)))
    pushed = _pushed(x, y, eps)
    pushed.flatten(1)[:, CORNERS] = x.flatten(1)[:, CORNERS]
    return known_by(defence, x, y, pushed)


def known_edge_wide(n: int = 640, eps: float = 0.1) -> Known:
    """Both models are robust: the gate is noticed, and decides nothing."""
    x, y = _grey_corners(*_images(n, eps, wide=True))
    defence = Deterministic("edge-wide", Gated(fragile_model(), robust_model(), Edge(0.95 * eps)))
    both = torch.stack(
        [worst_margins(model, x, y, eps) > 0 for model in (fragile_model(), robust_model())]
    ).all(0)
    return Known(defence, x, y, 128, exactly(1.0), everywhere(Truth(both.double().mean().item(), 1.0)))


def known_off_manifold(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, eps)
    seen, watched = fragile_model(), along(pattern(WATCHED))
    steep = LinearModel(seen.w + 3 * watched.w, seen.bias + 3 * watched.bias)
    gated = Gated(Slope(seen, steep), Slope(robust_model(), steep), Part(watched, 0.3 * eps))
    return known_by(Deterministic("off-manifold", gated), x, y, _pushed(x, y, eps))


def known_off_grid(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, eps)
    defence = Deterministic("off-grid", Gated(fragile_model(), robust_model(), OffGrid()))
    return known_by(defence, x, y, _pushed(x, y, int(255 * eps) / 255))


def known_grad_mode(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, eps)
    defence = Deterministic("grad-mode", Gated(fragile_model(), robust_model(), GradMode()))
    return known_by(defence, x, y, _pushed(x, y, eps))


def known_train_mode(n: int = 640, eps: float = 0.1) -> Known:
    """In use, in evaluation mode, the fragile model answers."""
    x, y = _images(n, eps)
    defence = Deterministic("train-mode", Gated(fragile_model(), robust_model(), TrainMode()))
    defence.answer.eval()
    known = known_by(defence, x, y, _pushed(x, y, eps))
    defence.answer.train()
    return known


def known_call_count(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, eps)
    defence = Deterministic("call-count", DecoyLater(fragile_model(), along(pattern(WATCHED))))
    return known_by(defence, x, y, _pushed(x, y, eps))


def fragile_model() -> LinearModel:
    return along(pattern(FRAGILE))


def robust_model() -> LinearModel:
    return along(pattern(ROBUST))


def _images(n: int, eps: float, *, wide: bool = False) -> tuple[Tensor, Tensor]:
    """Images at margins of both models, flat along WATCHED."""
    distances = spread(1.4 * eps, 2.0 * eps, n)
    x, y = planted_margins(distances, pattern(ROBUST), flat_along=[pattern(FRAGILE), pattern(WATCHED)])
    near = spread(1.3 * eps, 1.6 * eps, n, seed=2) if wide else spread(0.3 * eps, 0.6 * eps, n, seed=2)
    x = x + ((2 * y - 1) * near).view(-1, 1, 1, 1) * pattern(FRAGILE)
    return (x.clamp(0, 1) * 255).round() / 255, y


def _grey_corners(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone()
    x.flatten(1)[:, CORNERS] = 128 / 255
    return x, y


def _pushed(x: Tensor, y: Tensor, eps: float) -> Tensor:
    return (x + eps * against(y, pattern(FRAGILE))).clamp(0, 1)


def known_by(defence: Deterministic, x: Tensor, y: Tensor, pushed: Tensor) -> Known:
    """No more than what the defence answers rightly, in use, at the perturbation that its truth names."""
    with torch.no_grad():
        clean = (defence.logits(x, None).argmax(1) == y).double().mean().item()
        left = (defence.logits(pushed, None).argmax(1) == y).double().mean().item()
    return Known(defence, x, y, 128, exactly(clean), everywhere(Truth(0.0, left)))
