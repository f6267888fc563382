"""Published defences that purify the input, by noise and a learnt or exact denoiser or by the network's own
loss.
"""

import hashlib
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences.protocol import Around, Deterministic, Seeded
from robustbench_coded.defences.recompute import recompute
from robustbench_coded.defences.sampling import seeded_globally
from robustbench_coded.extras.published.registry import PaperRecord

DENOISER_WIDTH = 16
LEARNT_LEAST = 0.02  # deviations of the noise that it learns
LEARNT_LARGEST = 0.35
EPOCHS, IMAGES = 30, 32  # passes through the images, and how many it sees together
RATE = 4e-3
_LEARNT: dict[str, "Denoiser"] = {}


class Denoiser(nn.Module):
    """Gives the expected clean images of noisy ones [k, C, H, W], by the deviation of their noise."""

    def __init__(self, channels: int):
        super().__init__()
        self.into = nn.Conv2d(channels + 1, DENOISER_WIDTH, 3, padding=1)
        self.across = nn.ModuleList(nn.Conv2d(DENOISER_WIDTH, DENOISER_WIDTH, 3, padding=1) for _ in range(2))
        self.out = nn.Conv2d(DENOISER_WIDTH, channels, 3, padding=1)

    def forward(self, x: Tensor, deviation: float | Tensor) -> Tensor:
        level = torch.ones_like(x[:, :1]) * deviation
        h = functional.silu(self.into(torch.cat([x, level], dim=1)))
        for layer in self.across:
            h = h + functional.silu(layer(h))
        return x + level * self.out(h)


def denoiser_of(images: Tensor) -> Denoiser:
    """The denoiser learnt from ``images`` [P, C, H, W], once a process."""
    name = hashlib.sha256(images.cpu().contiguous().numpy().tobytes()).hexdigest()
    if name not in _LEARNT:
        _LEARNT[name] = _learnt(images.cpu())
    return _LEARNT[name].to(images.device)


@torch.inference_mode(False)
@torch.enable_grad()
def _learnt(images: Tensor) -> Denoiser:
    """Denoising score matching: the noise that was added is predicted, in units of its deviation."""
    generator = torch.Generator().manual_seed(0)
    with seeded_globally(0):
        network = Denoiser(images.shape[1])
    images = images.clone()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    steps = EPOCHS * -(-len(images) // IMAGES)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for step in range(steps):
        if step % -(-len(images) // IMAGES) == 0:
            order = torch.randperm(len(images), generator=generator).split(IMAGES)
        clean = images[order[step % len(order)]]
        share = torch.rand(len(clean), 1, 1, 1, generator=generator)
        deviation = LEARNT_LEAST * (LEARNT_LARGEST / LEARNT_LEAST) ** share
        noise = torch.randn(clean.shape, generator=generator)
        off = (network(clean + deviation * noise, deviation) - clean) / deviation
        optimizer.zero_grad()
        off.square().mean().backward()
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


SCORE_PURIFICATION = PaperRecord(
    about="Score-based purification: noise is added, and steps along a learnt score remove it",
    title="Adversarial Purification with Score-based Generative Models",
    arxiv="2106.06041",
    section="3",
    year=2021,
    random="the noise that is added first",
    claim="higher accuracy than earlier purification on CIFAR-10 under BPDA and other adaptive attacks",
    setting="a denoiser of 5,000 weights learnt from up to 256 images; one purification, where the paper "
    "averages several",
    lowered=(("2303.09051", "less is left when gradients go through the steps, and on average over draws"),),
)
NOISE = 0.25  # deviation of what is added, as in the paper
SCORE_STEPS = 8
SHRINKS = 0.7  # the share of the noise that a step leaves


class ScorePurification(Around, Seeded):
    """Denoises in ``SCORE_STEPS`` steps, through which gradients are exact (`recompute`)."""

    def __init__(self, model: nn.Module, pool: Tensor):
        super().__init__(model)
        self.denoiser = denoiser_of(pool)

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(draw)).to(x)
        return self.model(self.purified(x + NOISE * noise))

    def purified(self, x: Tensor) -> Tensor:
        """Images [k, C, H, W] with noise of deviation ``NOISE`` and without most of it."""
        return recompute(self.stepped, x, [NOISE * SHRINKS**step for step in range(SCORE_STEPS)])

    def stepped(self, x: Tensor, deviation: float) -> Tensor:
        """A step up the score, which is the denoised image less x, over the variance (Tweedie's formula)."""
        return x + (1 - SHRINKS) * (self.denoiser(x, deviation) - x)


DIFFUSION_PURIFICATION = PaperRecord(
    about="Diffusion purification: noise is added, and removed by a diffusion model",
    title="Diffusion Models for Adversarial Purification",
    arxiv="2205.07460",
    section="3",
    year=2022,
    random="the noise that is added first",
    claim="70.64% on CIFAR-10 at linf 8/255 under AutoAttack with the adjoint gradient (WRN-28-10)",
    setting="a kernel density of 256 images that are not evaluated, not a trained model: for small data",
    breaks=(("2411.16598", "collapses under exact gradients and where inputs may be submitted again"),),
    lowered=(
        ("2303.09051", "less is left when gradients go through the steps exactly, and on average over draws"),
    ),
)
LARGEST, SMALLEST = 0.3, 0.03  # deviations of the noise
FLOW_STEPS = 10  # between them
KERNEL_WIDTH = 0.2  # deviation of each kernel of the density


class DiffusionPurification(Around, Seeded):
    """Follows the probability flow from noise of deviation 0.3 to 0.03; gradients through it are exact.

    For a density that is a sum of Gaussian kernels around images, the expected clean image is known in
    closed form: the diffusion model is exact, and so is its score.
    """

    def __init__(self, model: nn.Module, pool: Tensor):
        super().__init__(model)
        self.pool = pool

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(draw)).to(x)
        return self.model(self.purified(x + LARGEST * noise))

    def purified(self, x: Tensor) -> Tensor:
        """Images [k, C, H, W] with noise of deviation ``LARGEST``, denoised by Euler's steps."""
        deviations = (
            torch.logspace(0, 1, FLOW_STEPS + 1) ** torch.tensor(SMALLEST / LARGEST).log10() * LARGEST
        )
        for s, smaller in pairwise(deviations.tolist()):
            x = x + (smaller - s) / s * (x - self.denoised(x, s))
        return self.denoised(x, SMALLEST)

    def denoised(self, x: Tensor, s: float) -> Tensor:
        """The expected clean image of each noisy one, noise of deviation s."""
        images = self.pool.to(x).flatten(1)
        noise, kernel = s * s, KERNEL_WIDTH * KERNEL_WIDTH
        # Squared distances to the images, halved, less what is the same for all of them.
        closeness = x.flatten(1) @ images.T - images.square().sum(1) / 2
        nearby = (closeness / (noise + kernel)).softmax(-1) @ images
        return (noise * nearby.view_as(x) + kernel * x) / (noise + kernel)


ANTI_ADVERSARY = PaperRecord(
    about="The anti-adversary layer: inputs move to where the network is surer of its answer",
    title="Combating Adversaries with Anti-Adversaries",
    arxiv="2103.14347",
    section="3",
    year=2022,
    claim="more accuracy than the networks have without it on CIFAR-10 under AutoAttack at linf 8/255",
    setting="two steps of 0.15, as in the paper, on the given network",
    breaks=(("2202.13711", "no gain over the static network under an adaptive attack"),),
)
MOVES = 2
MOVE = 0.15


class AntiAdversary(Around, Deterministic):
    """Answers f(x + g), where g takes two signed steps down the loss of the network's own prediction."""

    def images(self, k: int) -> int:
        """Images through the network for a batch of ``k``."""
        return k * (MOVES + 2)

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(x + self._moved(x))

    def _moved(self, x: Tensor) -> Tensor:
        """g, like x; signs have no slope, so the answer's gradient is the network's own at x + g."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone()
            g = torch.zeros_like(x)
            with torch.no_grad():
                predicted = self.model(x).argmax(-1)
            for _ in range(MOVES):
                g.requires_grad_()
                loss = functional.cross_entropy(self.model(x + g), predicted, reduction="sum")
                (slope,) = torch.autograd.grad(loss, g)
                g = (g - MOVE * slope.sign()).detach()
        return g
