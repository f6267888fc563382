"""JPEG compression: quantised cosine coefficients of 8 x 8 blocks (arXiv 1711.00117)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences.published.kinds import Deterministic
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Countering Adversarial Images using Input Transformations",
    arxiv="1711.00117",
    section="4",
    year=2018,
    random="",
    coupling="",
    claim="on ImageNet, its strongest transformation eliminates 60% of grey-box and 90% of black-box attacks",
    setting="quality 75; every channel by the table of luminance, colours as they are",
    breaks=(("1802.00420", "0% on ImageNet at a root-mean-square distance of 0.005"),),
)
QUALITY = 75
BLOCK = 8
# The table of luminance of the standard (ITU-T T.81, annex K), for quality 50.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


class Jpeg(Deterministic):
    """The network sees the image as JPEG at quality 75 would give it back, but for colour conversion."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.model = model

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
    found = cosines.T @ ((coefficients / table).round() * table) @ cosines
    image = ((found + 128) / 255).clamp(0, 1).permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)
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


def build(model: nn.Module) -> Jpeg:
    return Jpeg(model)
