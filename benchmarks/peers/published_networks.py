"""Architectures of weights that other authors published, for `published_weights.py`.

Files are read as tensors, arrays or MATLAB's matrices. Nothing in them is executed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def conv_net(weights: dict[str, Tensor]) -> nn.Sequential:
    """Two convolutions of 4 x 4 with stride 2 and two linear layers: weights in this order."""
    conv1, b1, conv2, b2, linear1, b3, linear2, b4 = weights.values()
    layers: list[nn.Module] = []
    for weight, bias in ((conv1, b1), (conv2, b2)):
        layers += [filled(nn.Conv2d(weight.shape[1], weight.shape[0], 4, 2, 1), weight, bias), nn.ReLU()]
    layers += [nn.Flatten(), filled(nn.Linear(*linear1.shape[::-1]), linear1, b3), nn.ReLU()]
    return nn.Sequential(*layers, filled(nn.Linear(*linear2.shape[::-1]), linear2, b4))


def filled(layer: Any, weight: Tensor, bias: Tensor) -> nn.Module:
    layer.weight.data, layer.bias.data = weight.contiguous(), bias.flatten().contiguous()
    return layer


def tensors(path: Path) -> dict[str, Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True)


def wong_kolter(path: Path) -> nn.Module:
    return conv_net(tensors(path))


def raghunathan(path: Path) -> nn.Module:
    """One hidden layer of 500; its arrays lie beside each other."""
    w1, w2, b1, b2 = (
        torch.from_numpy(np.load(path.with_name(f"{n}.npy"))).float() for n in ("W1", "W2", "B1", "B2")
    )
    hidden = filled(nn.Linear(784, 500), w1.T, b1)
    return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), filled(nn.Linear(500, 10), w2.T, b2))


class Channels(nn.Module):
    """Channels last, as TensorFlow flattens them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def mmr_universal(path: Path) -> nn.Module:
    from scipy.io import loadmat

    arrays = loadmat(path)
    parts = {}
    for layer in ("conv1", "conv2", "fc1", "fc2"):
        weight = torch.from_numpy(arrays[f"weights_{layer}"]).float()
        parts[layer] = weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight.T
        parts[f"{layer} bias"] = torch.from_numpy(arrays[f"biases_{layer}"]).float()
    network = conv_net(parts)
    return nn.Sequential(*network[:4], Channels(), *network[4:])


def lenet5(path: Path) -> nn.Module:
    w = tensors(path)
    layers: list[nn.Module] = []
    for name, channels in (("conv1", (1, 32)), ("conv2", (32, 64))):
        conv = filled(nn.Conv2d(*channels, 3, padding=1), w[f"{name}.weight"], w[f"{name}.bias"])
        layers += [conv, nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), filled(nn.Linear(3136, 200), w["linear1.weight"], w["linear1.bias"]), nn.ReLU()]
    return nn.Sequential(*layers, filled(nn.Linear(200, 10), w["linear2.weight"], w["linear2.bias"]))


class Sign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0)


def binarised(path: Path) -> nn.Module:
    """Pixels, binarised by a learned threshold each, and layers of signs."""
    arrays = {
        name: torch.from_numpy(value).float() for name, value in np.load(path, allow_pickle=False).items()
    }

    def norm(name: str) -> nn.Module:
        layer = nn.BatchNorm1d(len(arrays[f"{name}/beta"]), eps=2e-5)
        layer.running_mean, layer.running_var = arrays[f"{name}/avg_mean"], arrays[f"{name}/avg_var"]
        return filled(layer, arrays[f"{name}/gamma"], arrays[f"{name}/beta"])

    def linear(name: str) -> nn.Module:
        weight = arrays[f"{name}/W"]
        return filled(
            nn.Linear(*weight.shape[::-1]), torch.where(weight >= 0, 1.0, -1.0), arrays[f"{name}/b"]
        )

    layers: list[nn.Module] = [nn.Flatten(), norm("input_bn"), Sign()]
    for i in range(4):
        layers += [linear(f"blocks/{i}/lin"), norm(f"blocks/{i}/bn"), Sign()]
    return nn.Sequential(*layers, linear("output_lin")).eval()
