"""Defences that notice how far, which way or where an input was moved, and only then are good.

Pixels of their images have two values alone, 1/6 below and above grey, further apart than twice eps: what
was done to a pixel can be read off. Each defence has a fragile model s and a robust one u, told apart by two
patterns; an input that was moved as usual attacks move it is answered by u.

- ``small-only`` notices a pixel that was moved by more than eps / 2. ``small-wide`` does the same, and its s
  stands as far as it answers.
- ``up-only`` notices a pixel that was made darker, ``half-only`` one that was changed in the left half.
- ``off-lattice`` notices a pixel that is no multiple of 1/17, as those of its images are.
  ``off-lattice-wide`` does the same, and its s stands as far as it answers.

Truth: margins are linear, so what s loses within what is not noticed is known. It is more than s has, but for
``small-wide``, where s keeps eps / 2 and u keeps eps, and for ``off-lattice-wide``, where s keeps every move
by 1/17.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.attack_aware import FRAGILE, ROBUST, Gated, fragile_model, known_by, robust_model
from robustbench_coded.zoo.deterministic import Deterministic
from robustbench_coded.zoo.known import Known, everywhere, exactly
from robustbench_coded.zoo.linear import PIXELS, SIDE, against, pattern, worst_margins

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
    x, y = _images(n)
    defence = _gated("small-only", lambda moves: moves.abs() - eps / 2)
    return known_by(defence, x, y, x + 0.49 * eps * against(y, pattern(FRAGILE)))


def known_small_wide(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, wide=True)
    defence = _gated("small-wide", lambda moves: moves.abs() - eps / 2)
    near = worst_margins(fragile_model(), x, y, eps / 2) > 0
    far = worst_margins(robust_model(), x, y, eps) > 0
    return Known(defence, x, y, 128, exactly(1.0), everywhere(exactly((near & far).double().mean().item())))


def known_up_only(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n)
    defence = _gated("up-only", lambda moves: -moves - LITTLE * eps)
    return known_by(defence, x, y, x + eps * against(y, pattern(FRAGILE)).clamp(min=0))


def known_half_only(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n)
    right = torch.cat([torch.zeros(SIDE // 2), torch.ones(SIDE - SIDE // 2)])

    def on_the_left(moves: Tensor) -> Tensor:
        return (moves.abs() - LITTLE * eps)[..., : SIDE // 2]

    pushed = x + eps * against(y, pattern(FRAGILE)) * right
    return known_by(_gated("half-only", on_the_left), x, y, pushed)


def known_off_lattice(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _on_the_lattice(n)
    level = int(eps * LATTICE + NEAR) / LATTICE
    return known_by(_off_lattice("off-lattice"), x, y, x + level * against(y, pattern(FRAGILE)))


def known_off_lattice_wide(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _on_the_lattice(n, wide=True)
    level = (int(eps * LATTICE + NEAR) + NEAR) / LATTICE
    near = worst_margins(fragile_model(), x, y, level) > 0
    far = worst_margins(robust_model(), x, y, eps) > 0
    left = exactly((near & far).double().mean().item())
    return Known(_off_lattice("off-lattice-wide"), x, y, 128, exactly(1.0), everywhere(left))


def _off_lattice(name: str) -> Deterministic:
    return Deterministic(name, Gated(fragile_model(), robust_model(), OffLattice()))


def _on_the_lattice(n: int, *, wide: bool = False) -> tuple[Tensor, Tensor]:
    x, y = _images(n, wide=wide)
    return torch.where(x > 0.5, LATTICE_BRIGHT, LATTICE_DARK), y


def _gated(name: str, shows: Moved) -> Deterministic:
    return Deterministic(name, Gated(fragile_model(), robust_model(), Noticed(shows)))


def _images(n: int, *, wide: bool = False) -> tuple[Tensor, Tensor]:
    """Images [n, 1, 8, 8] of dark and bright pixels, alternately of class 0 and 1, with the margins above."""
    generator = torch.Generator().manual_seed(0)
    agreeing = (pattern(FRAGILE) == pattern(ROBUST)).flatten()
    signs = pattern(ROBUST).flatten().repeat(n, 1)
    for image, row in enumerate(signs):
        sums = WIDE if wide else (AGREEING, OTHERS[image // 2 % len(OTHERS)])
        for where, wanted in zip((agreeing, ~agreeing), sums, strict=True):
            pixels = where.nonzero().flatten()
            turned = pixels[torch.randperm(PIXELS // 2, generator=generator)[: (PIXELS // 2 - wanted) // 2]]
            row[turned] *= -1
    y = torch.arange(n) % 2
    signs = signs * (2 * y - 1).view(-1, 1)
    return torch.where(signs > 0, BRIGHT, DARK).view(n, 1, SIDE, SIDE), y
