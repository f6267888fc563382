"""Defences that look for an attack: for its gradients, its calls, or for how far and where pixels moved."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoo import linear
from zoo.known import Known, Truth, everywhere, exactly

# Defences that tell an attack, or an evaluation, from use, and only then are good.
#
# Each has a fragile model s and a robust one u, whose margins exceed eps: images have a part along both
# patterns. What is noticed decides which of the two answers, and each is wrong about what an attacker must
# do.
#
# - ``edge-only`` looks at four corner pixels, which are grey in clean images: if one is off by more than 0.95
#   eps, the robust model answers. ``edge-wide`` does the same with two robust models.
# - ``off-manifold`` looks for a part along a pattern v that clean images lack; its slope is that of s + 3 v,
#   along which all steps of a gradient's signs go.
# - ``off-grid`` looks for pixels that are no multiples of 1/255.
# - ``grad-mode`` lets the robust model answer while gradients are recorded, ``train-mode`` while its own
#   network is in training mode, as it is until ``eval()`` is called, and ``call-count`` has the model's true
#   slope for its first calls with gradients alone, later a decoy's.
#
# Truth: where the robust model answers an input stands, so an attacker keeps the fragile one answering: by
# leaving the corners alone, which costs 4 of 64 pixels' worth of margin; by steps straight against s, which
# have no part along v; by perturbations that are rounded, which cost less than 1/255; gradients recorded or
# not, the answer in use, without them, is s. The shares below are the worst margins under exactly those
# restrictions: a proven upper end, which is 0.


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

    def __init__(self, watched: linear.LinearModel, most: float):
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


class DecoyLater(linear.WithDecoy):
    """The model's answers, with its own slope for the first calls with gradients, then with a decoy's."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += torch.is_grad_enabled()
        logits = self.model(x)
        return logits if self.calls <= CALLS else linear.with_slope_of(logits, self.decoy(x))


class Slope(linear.WithDecoy):
    """The answers of a model with the slope of another."""

    def forward(self, x: Tensor) -> Tensor:
        return linear.with_slope_of(self.model(x), self.decoy(x))


def known_edge(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _grey_corners(*_images(n, eps))
    defence = _gated("edge-only", Edge(0.95 * eps))
    pushed = _pushed(x, y, eps)
    pushed.flatten(1)[:, CORNERS] = x.flatten(1)[:, CORNERS]
    return known_by(defence, x, y, pushed)


def known_edge_wide(n: int = 640, eps: float = 0.1) -> Known:
    """Both models are robust: the gate is noticed, and decides nothing."""
    x, y = _grey_corners(*_images(n, eps, wide=True))
    defence = _gated("edge-wide", Edge(0.95 * eps))
    both = torch.stack(
        [linear.worst_margins(model, x, y, eps) > 0 for model in (fragile_model(), robust_model())]
    ).all(0)
    return Known(defence, x, y, exactly(1.0), everywhere(Truth(both.double().mean().item(), 1.0)))


def known_off_manifold(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, eps)
    seen, watched = fragile_model(), linear.along(linear.pattern(WATCHED))
    steep = linear.LinearModel(seen.w + 3 * watched.w, seen.bias + 3 * watched.bias)
    gated = Gated(Slope(seen, steep), Slope(robust_model(), steep), Part(watched, 0.3 * eps))
    return known_by(linear.Deterministic("off-manifold", gated), x, y, _pushed(x, y, eps))


def known_off_grid(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, eps)
    defence = _gated("off-grid", OffGrid())
    return known_by(defence, x, y, _pushed(x, y, int(255 * eps) / 255))


def known_grad_mode(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, eps)
    defence = _gated("grad-mode", GradMode())
    return known_by(defence, x, y, _pushed(x, y, eps))


def known_train_mode(n: int = 640, eps: float = 0.1) -> Known:
    """In use, in evaluation mode, the fragile model answers."""
    x, y = _images(n, eps)
    defence = _gated("train-mode", TrainMode())
    defence.answer.eval()
    known = known_by(defence, x, y, _pushed(x, y, eps))
    defence.answer.train()
    return known


def known_call_count(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, eps)
    defence = linear.Deterministic(
        "call-count", DecoyLater(fragile_model(), linear.along(linear.pattern(WATCHED)))
    )
    return known_by(defence, x, y, _pushed(x, y, eps))


def fragile_model() -> linear.LinearModel:
    return linear.along(linear.pattern(FRAGILE))


def robust_model() -> linear.LinearModel:
    return linear.along(linear.pattern(ROBUST))


def _images(n: int, eps: float, *, wide: bool = False) -> tuple[Tensor, Tensor]:
    """Images at margins of both models, flat along WATCHED."""
    distances = linear.spread(1.4 * eps, 2.0 * eps, n)
    x, y = linear.planted_margins(
        distances, linear.pattern(ROBUST), flat_along=[linear.pattern(FRAGILE), linear.pattern(WATCHED)]
    )
    near = (
        linear.spread(1.3 * eps, 1.6 * eps, n, seed=2)
        if wide
        else linear.spread(0.3 * eps, 0.6 * eps, n, seed=2)
    )
    x = x + ((2 * y - 1) * near).view(-1, 1, 1, 1) * linear.pattern(FRAGILE)
    return (x.clamp(0, 1) * 255).round() / 255, y


def _grey_corners(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone()
    x.flatten(1)[:, CORNERS] = 128 / 255
    return x, y


def _pushed(x: Tensor, y: Tensor, eps: float) -> Tensor:
    return (x + eps * linear.against(y, linear.pattern(FRAGILE))).clamp(0, 1)


def known_by(defence: linear.Deterministic, x: Tensor, y: Tensor, pushed: Tensor) -> Known:
    """No more than what the defence answers rightly, in use, at the perturbation that its truth names."""
    with torch.no_grad():
        clean = (defence.logits(x, None).argmax(1) == y).double().mean().item()
        robust = (defence.logits(pushed, None).argmax(1) == y).double().mean().item()
    return Known(defence, x, y, exactly(clean), everywhere(Truth(0.0, robust)))


# Defences that notice how far, which way or where an input was moved, and only then are good.
#
# Pixels of their images have two values alone, 1/6 below and above grey, further apart than twice eps: what
# was done to a pixel can be read off. Each defence has a fragile model s and a robust one u, told apart by
# two patterns; an input that was moved as usual attacks move it is answered by u.
#
# - ``small-only`` notices a pixel that was moved by more than eps / 2. ``small-wide`` does the same, and its
#   s stands as far as it answers.
# - ``up-only`` notices a pixel that was made darker, ``half-only`` one that was changed in the left half.
# - ``off-lattice`` notices a pixel that is no multiple of 1/17, as those of its images are.
#   ``off-lattice-wide`` does the same, and its s stands as far as it answers.
#
# Truth: margins are linear, so what s loses within what is not noticed is known. It is more than s has, but
# for ``small-wide``, where s keeps eps / 2 and u keeps eps, and for ``off-lattice-wide``, where s keeps every
# move by 1/17.


DARK, BRIGHT = 85 / 255, 170 / 255
LATTICE = 17
LATTICE_DARK, LATTICE_BRIGHT = 5 / 17, 12 / 17
NEAR = 0.05  # of a level: a pixel that is not noticed, a hundred times what rounding does
LITTLE = 0.1  # of eps: a move that is not noticed

# Sums of signs over the 32 pixels where the two patterns agree, and over the others. Their sum makes the
# margin of the robust model, at least 40 of 384; their difference that of the fragile one.
AGREEING, OTHERS = 30, (12, 14, 16, 18)
WIDE = (32, 8)

Moved = Callable[[Tensor], Tensor]


class Noticed(nn.Module):
    """Whether ``shows``, a function of the moves of pixels [k, 1, 8, 8], is above 0 anywhere in an image."""

    def __init__(self, shows: Moved):
        super().__init__()
        self.shows = shows

    def forward(self, x: Tensor) -> Tensor:
        moves = x - torch.where(x > 0.5, BRIGHT, DARK)
        return (self.shows(moves).flatten(1) > 0).any(1)


class OffLattice(nn.Module):
    """Whether a pixel is no multiple of 1/LATTICE."""

    def forward(self, x: Tensor) -> Tensor:
        levels = LATTICE * x
        return ((levels - levels.round()).abs() > NEAR).flatten(1).any(1)


def known_small_only(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _moved_images(n)
    defence = _gated("small-only", Noticed(lambda moves: moves.abs() - eps / 2))
    return known_by(defence, x, y, x + 0.49 * eps * linear.against(y, linear.pattern(FRAGILE)))


def known_small_wide(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _moved_images(n, wide=True)
    defence = _gated("small-wide", Noticed(lambda moves: moves.abs() - eps / 2))
    near = linear.worst_margins(fragile_model(), x, y, eps / 2) > 0
    far = linear.worst_margins(robust_model(), x, y, eps) > 0
    return Known(defence, x, y, exactly(1.0), everywhere(exactly((near & far).double().mean().item())))


def known_up_only(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _moved_images(n)
    defence = _gated("up-only", Noticed(lambda moves: -moves - LITTLE * eps))
    return known_by(defence, x, y, x + eps * linear.against(y, linear.pattern(FRAGILE)).clamp(min=0))


def known_half_only(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _moved_images(n)
    right = torch.cat([torch.zeros(linear.SIDE // 2), torch.ones(linear.SIDE - linear.SIDE // 2)])

    def on_the_left(moves: Tensor) -> Tensor:
        return (moves.abs() - LITTLE * eps)[..., : linear.SIDE // 2]

    pushed = x + eps * linear.against(y, linear.pattern(FRAGILE)) * right
    return known_by(_gated("half-only", Noticed(on_the_left)), x, y, pushed)


def known_off_lattice(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _on_the_lattice(n)
    level = int(eps * LATTICE + NEAR) / LATTICE
    return known_by(
        _gated("off-lattice", OffLattice()), x, y, x + level * linear.against(y, linear.pattern(FRAGILE))
    )


def known_off_lattice_wide(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _on_the_lattice(n, wide=True)
    level = (int(eps * LATTICE + NEAR) + NEAR) / LATTICE
    near = linear.worst_margins(fragile_model(), x, y, level) > 0
    far = linear.worst_margins(robust_model(), x, y, eps) > 0
    robust = exactly((near & far).double().mean().item())
    return Known(_gated("off-lattice-wide", OffLattice()), x, y, exactly(1.0), everywhere(robust))


def _on_the_lattice(n: int, *, wide: bool = False) -> tuple[Tensor, Tensor]:
    x, y = _moved_images(n, wide=wide)
    return torch.where(x > 0.5, LATTICE_BRIGHT, LATTICE_DARK), y


def _gated(name: str, noticed: nn.Module) -> linear.Deterministic:
    return linear.Deterministic(name, Gated(fragile_model(), robust_model(), noticed))


def _moved_images(n: int, *, wide: bool = False) -> tuple[Tensor, Tensor]:
    """Images [n, 1, 8, 8] of dark and bright pixels, alternately of class 0 and 1, with the margins above."""
    generator = torch.Generator().manual_seed(0)
    agreeing = (linear.pattern(FRAGILE) == linear.pattern(ROBUST)).flatten()
    signs = linear.pattern(ROBUST).flatten().repeat(n, 1)
    for image, row in enumerate(signs):
        sums = WIDE if wide else (AGREEING, OTHERS[image // 2 % len(OTHERS)])
        for where, wanted in zip((agreeing, ~agreeing), sums, strict=True):
            pixels = where.nonzero().flatten()
            turned = pixels[
                torch.randperm(linear.PIXELS // 2, generator=generator)[: (linear.PIXELS // 2 - wanted) // 2]
            ]
            row[turned] *= -1
    y = torch.arange(n) % 2
    signs = signs * (2 * y - 1).view(-1, 1)
    return torch.where(signs > 0, BRIGHT, DARK).view(n, 1, linear.SIDE, linear.SIDE), y
