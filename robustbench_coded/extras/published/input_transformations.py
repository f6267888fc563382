"""Published defences that transform the input: bits, codes, JPEG, total variation, deflected pixels, random
transforms.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_coded.defences.protocol import Deterministic, Seeded, WrappedNetwork, normal

BITS = 3


class BitDepth(WrappedNetwork, Deterministic):
    """Rounds every pixel to a multiple of 1/7."""

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(rounded(x, BITS))


def rounded(x: Tensor, bits: int) -> Tensor:
    """Pixels in [0, 1] rounded to ``bits`` bits."""
    steps = 2**bits - 1
    return (x * steps).round() / steps


LEVELS = 15


class Thermometer(WrappedNetwork, Deterministic):
    """The network sees how many of ``LEVELS`` thresholds a pixel exceeds, as a share of them."""

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(codes(x).mean(0))


def codes(x: Tensor) -> Tensor:
    """[LEVELS, *x.shape]: 1 where a pixel is above the level's threshold, else 0."""
    thresholds = (torch.arange(LEVELS).to(x) + 0.5) / LEVELS
    return (x > thresholds.view(-1, *[1] * x.ndim)).to(x)


QUALITY = 75
BLOCK = 8
# The table of luminance of the standard (ITU-T T.81, annex K), for quality 50.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


class Jpeg(WrappedNetwork, Deterministic):
    """The network sees the image as JPEG at quality 75 would give it back, but for colour conversion."""

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(compressed(x))


def compressed(x: Tensor) -> Tensor:
    """Images [k, C, H, W] in [0, 1] after compression, of the same shape and range."""
    height, width = x.shape[-2:]
    padded = functional.pad(x, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    blocks = padded.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK)  # [k, C, rows, columns, 8, 8]
    cosines, table = _cosines().to(x), _table().to(x)
    coefficients = cosines @ (255 * blocks - 128) @ cosines.T
    pixels = cosines.T @ ((coefficients / table).round() * table) @ cosines
    image = ((pixels + 128) / 255).clamp(0, 1).permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)
    return image[..., :height, :width]


def _table() -> Tensor:
    scale = 5000 / QUALITY if QUALITY < 50 else 200 - 2 * QUALITY
    return ((torch.tensor(LUMINANCE, dtype=torch.float64) * scale + 50) / 100).floor().clamp(1, 255)


def _cosines() -> Tensor:
    """The orthonormal cosine transform, [8, 8]."""
    at = torch.arange(BLOCK, dtype=torch.float64)
    rows = torch.cos(math.pi / BLOCK * at[:, None] * (at[None] + 0.5)) * (2 / BLOCK) ** 0.5
    rows[0] /= 2**0.5
    return rows


DROPPED, WEIGHT = 0.5, 0.03
SWEEPS = 10
SMOOTH = 1e-3  # added under the root of the variation


class TotalVariation(WrappedNetwork, Seeded):
    """The network sees the smoothest image that agrees with the pixels of the mask."""

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        generator = torch.Generator().manual_seed(draw)
        mask = (torch.rand(len(x), 1, *x.shape[2:], generator=generator) >= DROPPED).to(x)
        return self.model(minimised(x, mask))


def minimised(x: Tensor, mask: Tensor) -> Tensor:
    """The z that minimises |mask (z - x)|^2 / 2 + weight TV(z), nearly.

    Dropped pixels begin as the mean of the others around them. Every sweep then solves for each pixel with
    its neighbours and the weights 1 / |difference| held fixed (lagged diffusivity).
    """
    data = mask * x
    around = functional.avg_pool2d(data, 3, 1, 1) / functional.avg_pool2d(mask, 3, 1, 1).clamp(min=SMOOTH)
    z = torch.where(mask > 0, x, around)
    for _ in range(SWEEPS):
        differences = z.diff(dim=-1), z.diff(dim=-2)
        across, down = (WEIGHT * (slope.square() + SMOOTH).rsqrt() for slope in differences)
        flow = _to_next(across * differences[0], -1) + _to_next(down * differences[1], -2)
        whole = mask + _to_both(across, -1) + _to_both(down, -2)
        z = z + (data - mask * z + flow) / whole
    return z.clamp(0, 1)


def _to_both(between: Tensor, dim: int) -> Tensor:
    """For each pixel the sum of what lies between it and its neighbours along ``dim``, -1 or -2."""
    before, after = _padded(between, dim)
    return before + after


def _to_next(between: Tensor, dim: int) -> Tensor:
    """For each pixel what lies between it and the next one along ``dim``, less what lies before it."""
    before, after = _padded(between, dim)
    return after - before


def _padded(between: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    sides = ((1, 0), (0, 1)) if dim == -1 else ((0, 0, 1, 0), (0, 0, 0, 1))
    return functional.pad(between, sides[0]), functional.pad(between, sides[1])


SHARE, REACH = 0.1, 2


class PixelDeflection(WrappedNetwork, Seeded):
    """The network sees the image with a tenth of its pixels taken from at most two pixels away."""

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        height, width = x.shape[2:]
        source = _sources(len(x), height, width, torch.Generator().manual_seed(draw)).to(x.device)
        pixels = x.flatten(2).gather(2, source.unsqueeze(1).expand(-1, x.shape[1], -1))
        return self.model(pixels.view_as(x))


def _sources(k: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Where each pixel is taken from, int64 [k, height * width]."""
    at = torch.arange(height * width).expand(k, -1)
    moved = torch.rand(k, height * width, generator=generator) < SHARE
    by = torch.randint(-REACH, REACH + 1, (2, k, height * width), generator=generator)
    rows = (at // width + by[0]).clamp(0, height - 1)
    columns = (at % width + by[1]).clamp(0, width - 1)
    return torch.where(moved, rows * width + columns, at)


CHANCE = 0.5  # that an input goes through a transform


class RandomTransforms(WrappedNetwork, Seeded):
    """Six transforms in a random order; each input goes through each with probability a half."""

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        generator = torch.Generator().manual_seed(draw)
        for number in torch.randperm(len(TRANSFORMS), generator=generator).tolist():
            chosen, strength = torch.rand(2, len(x), 1, 1, 1, generator=generator).to(x)
            changed = TRANSFORMS[number](x, strength, normal(generator, x)).clamp(0, 1)
            x = torch.where(chosen < CHANCE, changed, x)
        return self.model(x)


# Each from images [k, C, H, W], strengths [k, 1, 1, 1] in [0, 1) and normal noise like the images.


def _noisy(x: Tensor, strength: Tensor, noise: Tensor) -> Tensor:
    return x + 0.1 * strength * noise


def _gamma(x: Tensor, strength: Tensor, noise: Tensor) -> Tensor:
    return (x + 1e-3) ** (0.7 + 0.6 * strength)


def _contrast(x: Tensor, strength: Tensor, noise: Tensor) -> Tensor:
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (0.7 + 0.6 * strength) * (x - mean)


def _blurred(x: Tensor, strength: Tensor, noise: Tensor) -> Tensor:
    box = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return x + 0.6 * strength * (box - x)


def _shifted(x: Tensor, strength: Tensor, noise: Tensor) -> Tensor:
    """Towards the right by up to one pixel, the left edge repeated."""
    moved = functional.pad(x, (1, 0, 0, 0), mode="replicate")[..., :-1]
    return x + strength * (moved - x)


def _coarse(x: Tensor, strength: Tensor, noise: Tensor) -> Tensor:
    levels = (8 + 24 * strength).floor()
    return (x * levels).round() / levels


TRANSFORMS = (_noisy, _gamma, _contrast, _blurred, _shifted, _coarse)
