"""Networks of known truth for benchmarks/recognition.py: quick trainings, each with other parts without weights."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from robustbench_coded.data.digits import load_digits
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.per_image import PerImage
from robustbench_coded.models.registry import build
from robustbench_coded.models.variants import INPUT, split_variant
from robustbench_coded.training.augment import shift, shift_and_flip

BATCH = 128


def digits_images(split: str, size: int = 8) -> tuple[Tensor, Tensor]:
    """All images [n, 1, size, size] and labels of scikit-learn's digits."""
    data = load_digits(split)
    x, y = data.batch(np.arange(len(data)))
    return (x if size == 8 else F.interpolate(x, size=(size, size), mode="bilinear")).clamp(0, 1), y


def train(
    path: Path, arch: str, normalisation: str, x: Tensor, y: Tensor, *, epochs: int, rate: float, seed: int
) -> None:
    """Trains a network by SGD with momentum and a one-cycle schedule; writes its bare state dict."""
    if path.exists():
        return
    generator = torch.Generator().manual_seed(seed)
    network = build(arch, 10, x.shape[1], x.shape[2], generator=generator)
    known = KNOWN[x.shape[1]][normalisation]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (known.mean, known.std))
    model = PerImage(network).train() if INPUT in split_variant(arch)[1] else network
    augmented = shift_and_flip if x.shape[1] == 3 else shift
    steps = epochs * (len(x) // BATCH)
    optimiser = torch.optim.SGD(network.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for rows in order.split(BATCH)[: len(x) // BATCH]:
            pixels = augmented(x[rows].clone(), generator)
            loss = F.cross_entropy(model((pixels - mean) / std), y[rows])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(network.state_dict(), path)
