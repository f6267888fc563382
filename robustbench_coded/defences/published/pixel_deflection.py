"""Pixel deflection: random pixels are replaced by neighbours (arXiv 1801.08926)."""

import torch
from torch import Tensor, nn

from robustbench_coded.defences.published.kinds import Seeded
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Deflecting Adversarial Attacks with Pixel Deflection",
    arxiv="1801.08926",
    section="4",
    year=2018,
    random="which pixels are replaced, and by which neighbours",
    coupling="",
    claim="recovers most of the accuracy of ImageNet networks under attacks that do not know of it",
    setting="a tenth of the pixels, neighbours within two; no activation map, no wavelet denoising",
    breaks=(("1804.03286", "0% on ImageNet at linf 4/255, with the defence differentiated through"),),
)
SHARE, REACH = 0.1, 2


class PixelDeflection(Seeded):
    """The network sees the image with a tenth of its pixels taken from at most two pixels away."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.model = model

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


def build(model: nn.Module) -> PixelDeflection:
    return PixelDeflection(model)
