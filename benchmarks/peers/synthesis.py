"""*Analysis by Synthesis* (arXiv 1805.09190) on its authors' weights, for `published_weights.py`.

A variational autoencoder per class is fitted to the image: the best of stored latents, then steps of Adam.
The class with the best bound on its likelihood answers. The authors' answer has no gradient, since latents
are detached. `Fit` gives the gradient of the bounds at the fitted latents, which is the answer's own where
the steps have converged (the envelope theorem).
"""

from collections.abc import Sequence
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

LATENTS, RADIUS, RATE = 8, 5.0, 0.05
STRIDES = (1, 2, 2, 1)
PROTOTYPES, KEPT, SEED, STEPS = 8000, 0.9, 1234, 50
SCALES = (1.0, 0.96, 1.001, 1.06, 0.98, 0.96, 1.03, 1.0, 1.0, 1.0)  # of the binary model's bounds, by class
CHUNK = 250  # prototypes decoded together


class Decoders(nn.Module):
    """A decoder of transposed convolutions and ELUs per class, as groups of one network.

    Args:
        parts: of each class, (weight, bias) of each layer.
    """

    def __init__(self, parts: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> None:
        super().__init__()
        self.classes, layers = len(parts), zip(*parts, strict=True)
        grouped = [tuple(torch.cat(tensors) for tensors in zip(*layer, strict=True)) for layer in layers]
        self.weights = nn.ParameterList(nn.Parameter(weight, requires_grad=False) for weight, _ in grouped)
        self.biases = nn.ParameterList(nn.Parameter(bias, requires_grad=False) for _, bias in grouped)

    def forward(self, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images [B, classes, H, W] of latents [B, classes, d], and the activations on the way to them."""
        activations, out = [], z.flatten(1)[:, :, None, None]
        for weight, bias, stride in zip(self.weights, self.biases, STRIDES, strict=True):
            if out.shape[-1] > 1:
                out = functional.elu(out, inplace=True)
                activations.append(out)
            out = functional.conv_transpose2d(out, weight, bias, stride, groups=self.classes)
        return out.sigmoid(), activations

    def pull_back(self, slope: Tensor, activations: list[Tensor]) -> Tensor:
        """The derivative in the latents, of the one in the numbers before the last sigmoid."""
        for i in reversed(range(len(self.weights))):
            slope = functional.conv2d(slope, self.weights[i], None, STRIDES[i], groups=self.classes)
            if i:
                slope = torch.ops.aten.elu_backward(slope, 1, 1, 1, True, activations[i - 1])
        return slope.flatten(1).unflatten(1, (self.classes, -1))


class Fit(torch.autograd.Function):
    """Bounds [B, classes] at the fitted latents; the derivative holds these fixed."""

    runs_elsewhere = True  # relaxed attacks would run all steps once more, and differentiate through them

    @staticmethod
    def forward(ctx: Any, x: Tensor, model: "Synthesis") -> Tensor:
        z = model.fit(x)
        images, _ = model.decoders(z)
        ctx.save_for_backward(images - x)
        return bounds(images, z, x)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None]:
        (residual,) = ctx.saved_tensors
        total = torch.einsum("bc,bchw->bhw", slopes, residual)[:, None]
        return -2 * total / residual[0, 0].numel(), None


def bounds(images: Tensor, z: Tensor, x: Tensor) -> Tensor:
    """Negative evidence bounds [B, classes] per pixel."""
    return ((images - x).square().sum((2, 3)) + z.square().sum(2) / 2) / x[0].numel()


class Synthesis(nn.Module):
    """Pixels [B, 1, H, W] to logits [B, classes].

    Args:
        steps: evaluations of the decoders; the last one answers, so that the latents move once less.
        prototypes: latents [n, d] among which each class begins.
        scales: of each class's bound in the binary model, which binarises pixels at 0.5; None for the other.
    """

    def __init__(
        self, decoders: Decoders, prototypes: Tensor, steps: int, scales: Tensor | None = None
    ) -> None:
        super().__init__()
        self.decoders, self.prototypes, self.steps, self.scales = decoders, prototypes, steps, scales
        with torch.no_grad():
            repeated = prototypes[:, None].expand(-1, decoders.classes, -1)
            self.images = torch.cat([decoders(z)[0].flatten(2) for z in repeated.split(CHUNK)], 0)
        # |x|^2 is the same for all prototypes of an image.
        self.offsets = self.images.square().sum(2) + prototypes.square().sum(1, keepdim=True) / 2

    def forward(self, x: Tensor) -> Tensor:
        if self.scales is None:
            return -Fit.apply(x, self)
        return -Fit.apply(torch.where(x >= 0.5, 1.0, 0.0).to(x), self) * self.scales

    def start(self, x: Tensor) -> Tensor:
        """The best prototype of each class, [B, classes, d]."""
        products = x.flatten(1) @ self.images.flatten(0, 1).T
        distances = self.offsets - 2 * products.unflatten(1, self.offsets.shape)
        return self.prototypes[distances.argmin(1)]

    def fit(self, x: Tensor) -> Tensor:
        """The latents after ``steps`` - 1 steps of Adam on the sum of all bounds."""
        z = self.start(x)
        mean, square = torch.zeros_like(z), torch.zeros_like(z)
        for step in range(1, self.steps):
            images, activations = self.decoders(z)
            slope = 2 * (images - x) * images * (1 - images)
            slope = (self.decoders.pull_back(slope, activations) + z) / x[0].numel()
            mean, square = mean.lerp(slope, 0.1), square.lerp(slope.square(), 0.001)
            z = z - RATE * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            norm = z.norm(dim=2, keepdim=True)
            z = torch.where(norm > RADIUS, z.abs() * (RADIUS / norm), z)  # signs are lost, as published
        return z


def drawn_prototypes() -> Tensor:
    """The most probable of Gaussian latents, drawn as the authors' code does."""
    rng = np.random.RandomState(SEED)
    drawn = rng.multivariate_normal(np.zeros(LATENTS), np.eye(LATENTS), int(PROTOTYPES / KEPT))
    norms = (drawn**2).sum(1)
    return torch.tensor(drawn[norms <= np.sort(norms)[PROTOTYPES - 1]], dtype=torch.float32)


def folded(arrays: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(weight, bias) of a decoder's layers, with batch norms folded in."""
    layers = []
    for i in range(len(STRIDES)):
        weight, bias = (arrays[f"Decoder.conv_{i}.{name}"] for name in ("weight", "bias"))
        if f"Decoder.bn_{i}.weight" in arrays:
            names = ("weight", "bias", "running_mean", "running_var")
            gain, shift, mean, variance = (arrays[f"Decoder.bn_{i}.{name}"] for name in names)
            gain = gain / (variance + 1e-5).sqrt()
            weight, bias = weight * gain[:, None, None], (bias - mean) * gain + shift
        layers.append((weight, bias))
    return layers


@cache
def as_published(path: Path) -> Synthesis:
    """The model whose first decoder is ``path``, and the others beside it."""
    files = [path.with_name(f"ABS_{digit}.net") for digit in range(10)]
    parts = [folded(torch.load(file, map_location="cpu", weights_only=True)) for file in files]
    return Synthesis(Decoders(parts), drawn_prototypes(), STEPS)


def synthesis(path: Path, *, steps: int = STEPS, binary: bool = False) -> Synthesis:
    """The same with fewer steps or binarised; prototypes are decoded once."""
    model = copy(as_published(path))
    model.steps, model.scales = steps, torch.tensor(SCALES) if binary else None
    return model
