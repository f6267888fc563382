"""Published defences that purify the input, by noise and a learnt or exact denoiser or by the network's own
loss.
"""

import hashlib
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.accelerator import process_lock
from robustbench_coded.defences.protocol import Deterministic, Seeded, WrappedNetwork, normal
from robustbench_coded.defences.recompute import recompute
from robustbench_coded.defences.sampling import seeded_globally
from robustbench_coded.extras.published.activations import convolved

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
    with process_lock():
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


NOISE = 0.25  # deviation of what is added, as in the paper
SCORE_STEPS = 8
SHRINKS = 0.7  # the share of the noise that a step leaves


class ScorePurification(WrappedNetwork, Seeded):
    """Denoises in ``SCORE_STEPS`` steps, through which gradients are exact (`recompute`)."""

    def __init__(self, model: nn.Module, pool: Tensor):
        super().__init__(model)
        self.denoiser = denoiser_of(pool)

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(self.purified(x + NOISE * normal(draw, x)))

    def purified(self, x: Tensor) -> Tensor:
        """Images [k, C, H, W] with noise of deviation ``NOISE`` and without most of it."""
        return recompute(self.stepped, x, [NOISE * SHRINKS**step for step in range(SCORE_STEPS)])

    def stepped(self, x: Tensor, deviation: float) -> Tensor:
        """A step up the score, which is the denoised image less x, over the variance (Tweedie's formula)."""
        return x + (1 - SHRINKS) * (self.denoiser(x, deviation) - x)


LARGEST, SMALLEST = 0.3, 0.03  # deviations of the noise
FLOW_STEPS = 10  # between them
KERNEL_WIDTH = 0.2  # deviation of each kernel of the density


class DiffusionPurification(WrappedNetwork, Seeded):
    """Follows the probability flow from noise of deviation 0.3 to 0.03; gradients through it are exact.

    For a density that is a sum of Gaussian kernels around images, the expected clean image is known in
    closed form: the diffusion model is exact, and so is its score.
    """

    def __init__(self, model: nn.Module, pool: Tensor):
        super().__init__(model)
        self.pool = pool

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(self.purified(x + LARGEST * normal(draw, x)))

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


MOVES = 2
MOVE = 0.15


class AntiAdversary(WrappedNetwork, Deterministic):
    """Answers f(x + g), where g takes two signed steps down the loss of the network's own prediction."""

    passes = MOVES + 2

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


DESCENTS = 5
REACH = 0.82  # radius of the ball over eps sqrt(C H W)
DEFENDED = {1: 0.1}  # eps in linf, by channels
DEFENDED_COLOUR = 8 / 255


class Et3(WrappedNetwork, Deterministic):
    """Answers f(x + g), where g descends the energy in ``DESCENTS`` normalised steps, within the ball."""

    passes = DESCENTS + 1

    def logits(self, x: Tensor, draw: None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        return self.model(self.descended(x))

    def descended(self, x: Tensor) -> Tensor:
        """Images of less energy, like x, through whose gradients an attacker sees (of second order)."""
        follows = torch.is_grad_enabled() and x.requires_grad
        radius = REACH * DEFENDED.get(x.shape[1], DEFENDED_COLOUR) * x[0].numel() ** 0.5
        with torch.inference_mode(False), torch.enable_grad():
            x = x if follows else x.detach().clone()
            moved = x if follows else x.requires_grad_()
            for _ in range(DESCENTS):
                energy = -self.model(moved).logsumexp(-1).sum()
                (slope,) = torch.autograd.grad(energy, moved, create_graph=follows)
                stepped = moved - x - radius / 2 * slope / length(slope)
                stepped = (x + stepped).clamp(0, 1) - x
                moved = x + stepped * (radius / length(stepped)).clamp(max=1)
                moved = moved if follows else moved.detach().requires_grad_()
        return moved if follows else moved.detach()


def length(x: Tensor) -> Tensor:
    """l2 norms [k, 1, 1, 1], never 0."""
    return (x.square().sum((1, 2, 3), keepdim=True) + 1e-24).sqrt()


STRONG, WEAK = 0.36, 0.17  # deviations of the noise, in pixels
LOOKED_AT = 0.9  # of the largest activation
PURIFY_STEPS = 8
RENOISED = 1.03  # the ratio by which noise rises before each strong step; three of the authors' 1,000 times


class HeterogeneousNoise(WrappedNetwork, Seeded):
    """Denoises pixels that the network looks at from ``STRONG``, and all others from ``WEAK`` on.

    Until the noise has fallen to ``WEAK``, the others are the input under noise as strong as at the step.
    """

    passes = 2

    def __init__(self, model: nn.Module, pool: Tensor):
        super().__init__(model)
        self.denoiser = denoiser_of(pool)

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        mask, generator = self.looked_at(x), torch.Generator().manual_seed(draw)
        levels = [STRONG * (SMALLEST / STRONG) ** (step / PURIFY_STEPS) for step in range(PURIFY_STEPS + 1)]
        purified = x + STRONG * normal(generator, x)
        for now, then in pairwise(levels):
            if then >= WEAK:
                purified = mask * purified + (1 - mask) * (x + now * normal(generator, x))
                purified = purified + now * (RENOISED**2 - 1) ** 0.5 * normal(generator, x)
                now = RENOISED * now
            purified = purified + (1 - then / now) * (self.denoiser(purified, now) - purified)
        return self.model(purified)

    def looked_at(self, x: Tensor) -> Tensor:
        """A mask [k, 1, H, W] of 0 and 1: where the energy of activations is near its largest in any map."""
        last = {output.shape[2:]: output for output in convolved(self.model, x)}
        maps = []
        for output in last.values():
            energy = output.relu().square().sum(1, keepdim=True)
            energy = functional.interpolate(energy, size=x.shape[-2:], mode="bilinear")
            least, most = energy.amin((2, 3), keepdim=True), energy.amax((2, 3), keepdim=True)
            maps.append((energy - least) / (most - least).clamp(min=1e-12))
        return (torch.cat(maps, 1).amax(1, keepdim=True) >= LOOKED_AT).to(x)
