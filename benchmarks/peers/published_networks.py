"""Architectures of weights that other authors published, for `published_weights.py`.

Files are read as tensors, arrays or MATLAB's matrices. Nothing in them is executed.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.models.architectures.wide_resnet import Competition
from robustbench_coded.models.pixel_model import PixelModel

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


class ProjectedBlock(nn.Module):
    """A block of a ResNet for CIFAR-10, with a 1x1 convolution as shortcut where the shape changes."""

    def __init__(self, inside: int, planes: int) -> None:
        super().__init__()
        stride = 1 if inside == planes else 2
        self.conv_1 = nn.Conv2d(inside, planes, 3, stride, 1, bias=False)
        self.conv_2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn_1, self.bn_2 = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes)
        projection = (nn.Conv2d(inside, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
        self.downsample = nn.Sequential(*(projection if stride == 2 else ()))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn_2(self.conv_2(self.bn_1(self.conv_1(x)).relu()))
        return (out + self.downsample(x)).relu()


class ProjectedResNet20(nn.Module):
    """ResNet-20 with 1x1 convolutions as shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.bn_1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.stage_1, self.stage_2, self.stage_3 = (
            nn.Sequential(ProjectedBlock(inside, planes), *(ProjectedBlock(planes, planes) for _ in range(2)))
            for inside, planes in ((16, 16), (16, 32), (32, 64))
        )
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn_1(self.conv_1(x)).relu()
        for stage in (self.stage_1, self.stage_2, self.stage_3):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


def projected_resnet(path: Path) -> PixelModel:
    network = ProjectedResNet20()
    network.load_state_dict(tensors(path))
    return PixelModel(network, *IMAGENET, classes=10, arch="resnet20")


class Arrays(pickle.Unpickler):
    """Reads arrays of numpy from a pickle, and refuses any other class."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


class Halved(nn.Module):
    """TensorFlow's padding of a 3x3 convolution of stride 2: at the lower and right sides alone."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (0, 1, 0, 1))


def lwta_sbp(path: Path) -> PixelModel:
    """Layers of pairs that compete, and a last one whose weights are scaled by learned probabilities.

    The softmax of the original is left out; it keeps the order of the logits.
    """
    with path.open("rb") as file:
        parts = iter([torch.from_numpy(array).float() for array in Arrays(file, encoding="latin1").load()])
    layers: list[nn.Module] = []
    for halves in (False, False, True) * 3:
        weight, bias = next(parts).permute(3, 2, 0, 1), next(parts)
        stride, padding = (2, 0) if halves else (1, weight.shape[2] // 2)
        conv = nn.Conv2d(weight.shape[1], len(bias), weight.shape[2], stride, padding)
        layers += [*([Halved()] if halves else []), filled(conv, weight, bias), Competition()]
        if not halves:
            norm = nn.BatchNorm2d(len(bias), eps=1e-3)
            layers.append(filled(norm, next(parts), next(parts)))
            norm.running_mean, norm.running_var = next(parts), next(parts)
    layers += [Channels(), nn.Flatten()]
    for _ in range(2):
        weight, bias = next(parts).T, next(parts)
        layers += [filled(nn.Linear(*weight.T.shape), weight, bias), Competition()]
    weight, _, _, _, stay, bias = parts  # a deviation and two sticks are for training alone
    stay = stay.sigmoid()
    scale = torch.where(stay > 0.01, stay, 0.0).tile(1, 2)
    layers += [Competition(), filled(nn.Linear(*weight.shape), (weight * scale).T, bias)]
    return PixelModel(nn.Sequential(*layers), (0.5,) * 3, (1.0,) * 3, classes=10, arch="lwta-sbp")
