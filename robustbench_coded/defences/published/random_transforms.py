"""Barrage of random transforms: several in random order and strength (Raff and others, CVPR 2019)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences.published.kinds import Seeded
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Barrage of Random Transforms for Adversarially Robust Defense",
    arxiv="CVPR 2019",
    section="4",
    year=2019,
    random="which transforms are applied, in which order, and how strongly",
    coupling="",
    claim="up to 24 times the accuracy of earlier defences under attack on ImageNet",
    setting="six transforms of its 25, each applied to half of the inputs; one order a batch",
    untrained="around a network that was not fine-tuned on transformed images",
    breaks=(
        (
            "2207.03574",
            "BPDA overestimates it; a better attack takes 83% of the accuracy on Imagenette",
        ),
    ),
)
CHANCE = 0.5  # that an input goes through a transform


class RandomTransforms(Seeded):
    """Six transforms in a random order; each input goes through each with probability a half."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.model = model

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        generator = torch.Generator().manual_seed(draw)
        for number in torch.randperm(len(TRANSFORMS), generator=generator).tolist():
            chosen, strength = torch.rand(2, len(x), 1, 1, 1, generator=generator).to(x)
            noise = torch.randn(x.shape, generator=generator).to(x)
            changed = TRANSFORMS[number](x, strength, noise).clamp(0, 1)
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


def build(model: nn.Module) -> RandomTransforms:
    return RandomTransforms(model)
