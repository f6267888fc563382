"""Total variation minimisation: random pixels are dropped, the image is smoothed (arXiv 1711.00117)."""

import torch
from torch import Tensor, nn

from robustbench_coded.defences.published.kinds import Seeded
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Countering Adversarial Images using Input Transformations",
    arxiv="1711.00117",
    section="4",
    year=2018,
    random="which half of the pixels is dropped",
    coupling="",
    claim="on ImageNet, its strongest transformation eliminates 60% of grey-box and 90% of black-box attacks",
    setting="weight 0.03, half of the pixels dropped; 40 steps of descent, differentiated exactly",
    breaks=(("1802.00420", "0% on ImageNet at a root-mean-square distance of 0.005"),),
)
DROPPED, WEIGHT = 0.5, 0.03
STEPS, STEP = 40, 0.3
SMOOTH = 1e-3  # added under the root of the variation


class TotalVariation(Seeded):
    """The network sees the smoothest image that agrees with the pixels that were kept."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.model = model

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        generator = torch.Generator().manual_seed(draw)
        kept = (torch.rand(len(x), 1, *x.shape[2:], generator=generator) >= DROPPED).to(x)
        return self.model(minimised(x, kept))


def minimised(x: Tensor, kept: Tensor) -> Tensor:
    """Descends on |kept (z - x)|^2 / 2 + weight TV(z) from z = x, by gradients written out."""
    z = kept * x
    for _ in range(STEPS):
        across, down = z.diff(dim=-1), z.diff(dim=-2)
        pull = WEIGHT * (_spread(across, -1) + _spread(down, -2))
        z = z - STEP * (kept * (z - x) + pull)
    return z.clamp(0, 1)


def _spread(difference: Tensor, dim: int) -> Tensor:
    """The gradient of the sum of sqrt(d^2 + smooth) over neighbours along ``dim``."""
    slope = difference / (difference.square() + SMOOTH).sqrt()
    edge = torch.zeros_like(slope.narrow(dim, 0, 1))
    return torch.cat([edge, slope], dim) - torch.cat([slope, edge], dim)


def build(model: nn.Module) -> TotalVariation:
    return TotalVariation(model)
