"""Generators and critics: small ones for 8 x 8 images, DCGAN's sizes (arXiv 1511.06434) from 32 x 32 up.

A generator has batch-norms. A critic has none: its penalty is about single images (arXiv 1704.00028).
"""

from __future__ import annotations

from torch import Tensor, nn

from robustbench_coded.errors import InputError

LATENT = {8: 32, 16: 64, 32: 128}
_WIDTH = {8: 32, 16: 64, 32: 64}


class Generator(nn.Module):
    """Latents ``[B, latent]`` to images ``[B, C, S, S]`` in [0, 1].

    Args:
        side: S, 8, 16 or 32. channels: C.
    """

    def __init__(self, side: int, channels: int):
        super().__init__()
        check_side(side)
        self.latent, self.start = LATENT[side], 4
        doublings = (side // 4).bit_length() - 1
        width = _WIDTH[side] << (doublings - 1)
        self.first = nn.Linear(self.latent, width * 16, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(doublings - 1):
            layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width // 2)]
            layers.append(nn.ReLU())
            width //= 2
        layers += [nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Sigmoid()]
        self.rest = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.rest(self.first(z).unflatten(1, (-1, self.start, self.start)))


class Critic(nn.Module):
    """Images ``[B, C, S, S]`` to scores ``[B]``."""

    def __init__(self, side: int, channels: int):
        super().__init__()
        check_side(side)
        layers: list[nn.Module] = []
        width, before, size = _WIDTH[side], channels, side
        while size > 2:
            layers += [nn.Conv2d(before, width, 4 if size > 4 else 3, 2, 1), nn.LeakyReLU(0.2)]
            before, width, size = width, min(2 * width, 8 * _WIDTH[side]), size // 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.score = nn.Linear(before * size * size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.body(2 * x - 1)).squeeze(1)


def check_side(side: int) -> None:
    """Raises InputError for images that no network here makes."""
    if side not in LATENT:
        raise InputError(f"images of {side} x {side}: generators here make 8 x 8, 16 x 16 and 32 x 32")
