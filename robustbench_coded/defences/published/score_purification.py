"""Score-based purification: noise is added, and steps along a learnt score remove it (arXiv 2106.06041)."""

from functools import partial

import torch
from torch import Tensor, nn

from robustbench_coded.defences.published.kinds import Seeded
from robustbench_coded.defences.published.record import Record
from robustbench_coded.defences.published.sampler_steps import after_steps
from robustbench_coded.defences.published.small_denoiser import Denoiser, denoiser_of

RECORD = Record(
    title="Adversarial Purification with Score-based Generative Models",
    arxiv="2106.06041",
    section="3",
    year=2021,
    random="the noise that is added first",
    coupling="",
    claim="higher accuracy than earlier purification on CIFAR-10 under BPDA and other adaptive attacks",
    setting="a denoiser of 5,000 weights learnt from up to 256 images; one purification, where the paper "
    "averages several",
    lowered=(("2303.09051", "less is left when gradients go through the steps, and on average over draws"),),
)
NOISE, STEPS = 0.25, 8  # deviation of what is added, as in the paper; steps
SHRINKS = 0.7  # the share of the noise that a step leaves


class ScorePurification(Seeded):
    """Denoises in ``STEPS`` steps; gradients through them are exact, and each step keeps its image alone."""

    def __init__(self, model: nn.Module, denoiser: Denoiser):
        self.base = model
        self.model = model
        self.denoiser = denoiser

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(draw)).to(x)
        return self.model(self.purified(x + NOISE * noise))

    def purified(self, x: Tensor) -> Tensor:
        """Images [k, C, H, W] with noise of deviation ``NOISE`` and without most of it."""
        deviations = [NOISE * SHRINKS**step for step in range(STEPS)]
        return after_steps(x, [partial(self.stepped, deviation=deviation) for deviation in deviations])

    def stepped(self, x: Tensor, deviation: float) -> Tensor:
        """A step up the score, which is the denoised image less x, over the variance (Tweedie's formula)."""
        return x + (1 - SHRINKS) * (self.denoiser(x, deviation) - x)


def build(model: nn.Module, pool: Tensor) -> ScorePurification:
    return ScorePurification(model, denoiser_of(pool))
