"""What batch-norm layers remember of training, compared with what they see in an assembled network.

Every batch-norm stores the mean and variance of each of its channels in training. Images of that
distribution reproduce them if, and only if, everything before the layer is as it was in training: the
normalisation, the activations, the shortcuts. No labels are needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

BATCH = 128


@dataclass(frozen=True)
class Fingerprint:
    """How far a network's batch-norms are from what they remember, in the order in which they are reached.

    Attributes:
        layers: names of the batch-norms.
        divergences: of each layer, the mean over its channels of the symmetric divergence between Gaussians
            of the stored and the measured mean and variance, in nats; 0 where they are equal.
        images: how many it was measured on.
    """

    layers: tuple[str, ...]
    divergences: tuple[float, ...]
    images: int

    @property
    def median(self) -> float:
        """Over the layers."""
        return median(self.divergences)

    @property
    def score(self) -> float:
        """One number to compare candidates by: the square of the mean root, so that every layer counts.

        A part that only the last layers see does not move the median.
        """
        return (sum(divergence**0.5 for divergence in self.divergences) / len(self.divergences)) ** 2

    @property
    def largest(self) -> float:
        return max(self.divergences)

    def departs_at(self, limit: float) -> str | None:
        """The first layer beyond ``limit``; None where no layer is."""
        pairs = zip(self.layers, self.divergences, strict=True)
        return next((name for name, divergence in pairs if divergence > limit), None)


class _Enough(Exception):
    """As many batch-norms were seen as were asked for."""


def trained_batch_norms(network: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The batch-norms that remember something: those with statistics that are not a fresh layer's."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.running_mean is not None
        and module.running_var is not None
        and not (bool((module.running_mean == 0).all()) and bool((module.running_var == 1).all()))
    }


@torch.no_grad()
def fingerprint(
    model: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor, *, layers: int | None = None
) -> Fingerprint | None:
    """Sends images through a model and compares the inputs of its batch-norms with what these remember.

    Args:
        model: pixels to logits, in eval mode.
        network: the module inside it that has the batch-norms.
        images: [n, C, H, W] in [0, 1], on its device; as in training.
        layers: stop after so many batch-norms; None for all.
    Returns:
        None where no batch-norm remembers anything.
    """
    norms = trained_batch_norms(network)
    if not norms:
        return None
    moments: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Callable[[nn.Module, Sequence[Tensor]], None]:
        def see(module: nn.Module, inputs: Sequence[Tensor]) -> None:
            x = inputs[0].flatten(2) if inputs[0].ndim > 2 else inputs[0][..., None]
            seen = moments.setdefault(name, [])
            # The mean of each image's own moments: images weigh alike, whatever the layer's size.
            seen.append(torch.stack([x.mean(2).sum(0), x.square().mean(2).sum(0)]).double())
            if layers is not None and len(moments) >= layers and name == list(moments)[layers - 1]:
                raise _Enough

        return see

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in norms.items()]
    try:
        for batch in images.split(BATCH):
            try:
                model(batch)
            except _Enough:
                continue
    finally:
        for handle in handles:
            handle.remove()
    divergences = [
        _divergence(norms[name], torch.stack(seen).sum(0) / len(images)) for name, seen in moments.items()
    ]
    return Fingerprint(tuple(moments), tuple(divergences), len(images))


def _divergence(norm: nn.modules.batchnorm._BatchNorm, moments: Tensor) -> float:
    """Mean over the channels; ``moments`` [2, channels] are of the first and second order."""
    mean, second = moments
    # What the layer divides by; it also keeps channels without any variance from deciding.
    variance = (second - mean**2).clamp(min=0) + norm.eps
    assert norm.running_mean is not None and norm.running_var is not None
    stored_mean, stored_variance = norm.running_mean.double(), norm.running_var.double() + norm.eps
    ratio = stored_variance / variance
    apart = (stored_mean - mean) ** 2 * (1 / variance + 1 / stored_variance)
    per_channel = (ratio + 1 / ratio - 2 + apart) / 2
    return float(per_channel.nan_to_num(nan=1e9, posinf=1e9).clamp(max=1e9).mean())
