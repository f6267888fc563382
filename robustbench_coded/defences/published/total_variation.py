"""Total variation minimisation: random pixels are dropped, the image is smoothed (arXiv 1711.00117)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

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
    setting="weight 0.03, half of the pixels dropped; 10 sweeps of a fixed point, differentiated exactly",
    breaks=(("1802.00420", "0% on ImageNet at a root-mean-square distance of 0.005"),),
)
DROPPED, WEIGHT = 0.5, 0.03
SWEEPS = 10
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
    """The z that minimises |kept (z - x)|^2 / 2 + weight TV(z), nearly.

    Dropped pixels begin as the mean of the kept ones around them. Every sweep then solves for each pixel with
    its neighbours and the weights 1 / |difference| held fixed (lagged diffusivity).
    """
    data = kept * x
    around = functional.avg_pool2d(data, 3, 1, 1) / functional.avg_pool2d(kept, 3, 1, 1).clamp(min=SMOOTH)
    z = torch.where(kept > 0, x, around)
    for _ in range(SWEEPS):
        differences = z.diff(dim=-1), z.diff(dim=-2)
        across, down = (WEIGHT * (found.square() + SMOOTH).rsqrt() for found in differences)
        flow = _to_next(across * differences[0], -1) + _to_next(down * differences[1], -2)
        whole = kept + _to_both(across, -1) + _to_both(down, -2)
        z = z + (data - kept * z + flow) / whole
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


def build(model: nn.Module) -> TotalVariation:
    return TotalVariation(model)
