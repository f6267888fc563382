"""Parametric noise injection: noise on the weights of every layer (arXiv 1811.09310)."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustbench_coded.defences.published.changed_layers import LAYERS
from robustbench_coded.defences.published.kinds import Seeded
from robustbench_coded.defences.published.record import Record

RECORD = Record(
    title="Parametric Noise Injection: Trainable Randomness to Improve Deep Neural Network Robustness",
    arxiv="1811.09310",
    section="3",
    year=2019,
    random="Gaussian noise on the weights of every layer",
    coupling="",
    claim="6.8 points more than adversarial training under PGD on CIFAR-10 (ResNet-20)",
    setting="the scale of the noise stays at 0.25, from where the paper trains it",
    untrained="around a network that was not trained with noise",
)
SCALE = 0.25  # of the deviation of a layer's weights


class ParametricNoise(Seeded):
    """Every answer is that of the network with weights w + 0.25 std(w) n, n normal and drawn anew."""

    def __init__(self, model: nn.Module):
        self.base = model
        self.model = model

    def logits(self, x: Tensor, draw: int) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]."""
        generator = torch.Generator().manual_seed(draw)
        noisy = {}
        for name, layer in self.model.named_modules():
            if isinstance(layer, LAYERS):
                weight = layer.weight
                noise = torch.randn(weight.shape, generator=generator).to(weight)
                noisy[f"{name}.weight" if name else "weight"] = weight + SCALE * weight.std() * noise
        return functional_call(self.model, noisy, (x,))


def build(model: nn.Module) -> ParametricNoise:
    return ParametricNoise(model)
