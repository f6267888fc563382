"""A small network that learns to denoise from a few hundred images, in seconds."""

import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences.global_generators import seeded_globally

WIDTH = 16
LEAST, LARGEST = 0.02, 0.35  # deviations of the noise that it learns
EPOCHS, IMAGES = 30, 32  # passes through the images, and how many it sees together
RATE = 4e-3
_LEARNT: dict[str, "Denoiser"] = {}


class Denoiser(nn.Module):
    """Gives the expected clean images of noisy ones [k, C, H, W], by the deviation of their noise."""

    def __init__(self, channels: int):
        super().__init__()
        self.into = nn.Conv2d(channels + 1, WIDTH, 3, padding=1)
        self.across = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(2))
        self.out = nn.Conv2d(WIDTH, channels, 3, padding=1)

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
        deviation = LEAST * (LARGEST / LEAST) ** share
        noise = torch.randn(clean.shape, generator=generator)
        off = (network(clean + deviation * noise, deviation) - clean) / deviation
        optimizer.zero_grad()
        off.square().mean().backward()
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)
