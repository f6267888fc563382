"""Diffusion purification: noise is added, and removed by a diffusion model (arXiv 2205.07460)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from robustbench_coded.defences.published.kinds import Seeded
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Diffusion Models for Adversarial Purification",
    arxiv="2205.07460",
    section="3",
    year=2022,
    random="the noise that is added first",
    coupling="",
    claim="70.64% on CIFAR-10 at linf 8/255 under AutoAttack with the adjoint gradient (WRN-28-10)",
    setting="a kernel density of 256 images that are not evaluated, not a trained model: for small data",
    breaks=(("2411.16598", "collapses under exact gradients and where inputs may be submitted again"),),
    lowered=(
        ("2303.09051", "less is left when gradients go through the steps exactly, and on average over draws"),
    ),
)
LARGEST, SMALLEST, STEPS = 0.3, 0.03, 10  # deviations of the noise, and steps between them
WIDTH = 0.2  # deviation of each kernel of the density


class DiffusionPurification(Seeded):
    """Follows the probability flow from noise of deviation 0.3 to 0.03; gradients through it are exact.

    For a density that is a sum of Gaussian kernels around images, the expected clean image is known in
    closed form: the diffusion model is exact, and so is its score.
    """

    def __init__(self, model: nn.Module, pool: Tensor):
        self.base = model
        self.model = model
        self.pool = pool

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(draw)).to(x)
        return self.model(self.purified(x + LARGEST * noise))

    def purified(self, x: Tensor) -> Tensor:
        """Images [k, C, H, W] with noise of deviation ``LARGEST``, denoised by Euler's steps."""
        deviations = torch.logspace(0, 1, STEPS + 1) ** torch.tensor(SMALLEST / LARGEST).log10() * LARGEST
        for s, smaller in pairwise(deviations.tolist()):
            x = x + (smaller - s) / s * (x - self.denoised(x, s))
        return self.denoised(x, SMALLEST)

    def denoised(self, x: Tensor, s: float) -> Tensor:
        """The expected clean image of each noisy one, noise of deviation s."""
        images = self.pool.to(x).flatten(1)
        noise, kernel = s * s, WIDTH * WIDTH
        # Squared distances to the images, halved, less what is the same for all of them.
        closeness = x.flatten(1) @ images.T - images.square().sum(1) / 2
        nearby = (closeness / (noise + kernel)).softmax(-1) @ images
        return (noise * nearby.view_as(x) + kernel * x) / (noise + kernel)


def build(model: nn.Module, pool: Tensor) -> DiffusionPurification:
    return DiffusionPurification(model, pool)
