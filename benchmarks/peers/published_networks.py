"""Architectures of weights that other authors published, for `published_weights.py` and `proofs.py`.

Files are read as tensors, arrays, MATLAB's matrices, tables of pandas or graphs of ONNX. Nothing in them is
executed.
"""

import gzip
import pickle
import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.models.architectures.wide_resnet import Competition
from robustbench_coded.models.pixel_model import PixelModel

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def digits(folder: Path) -> tuple[Tensor, Tensor]:
    """MNIST's test images [n, 1, 28, 28] in [0, 1] and labels [n]."""
    pixels = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    x = torch.tensor(np.frombuffer(pixels, np.uint8).reshape(-1, 1, 28, 28) / np.float32(255))
    return x, torch.tensor(np.frombuffer(labels, np.uint8).astype(np.int64))


def conv_net(weights: dict[str, Tensor]) -> nn.Sequential:
    """Convolutions with padding 1, those of 4 x 4 with stride 2, and linear layers: weights in this order."""
    layers: list[nn.Module] = []
    values = list(weights.values())
    for weight, bias in zip(values[::2], values[1::2], strict=True):
        if weight.ndim == 4:
            size = weight.shape[2]
            layer: nn.Module = nn.Conv2d(weight.shape[1], weight.shape[0], size, 2 if size == 4 else 1, 1)
        else:
            layers += [] if any(isinstance(x, nn.Flatten) for x in layers) else [nn.Flatten()]
            layer = nn.Linear(*weight.shape[::-1])
        layers += [filled(layer, weight, bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


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


class Part:
    """An object of pandas: its state, and nothing that acts."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Frame(Arrays):
    """Reads arrays and the parts of a table of pandas from a pickle, and refuses any other class."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("pandas."):
            return (lambda _, parts: parts.get("data", ())) if name == "_new_Index" else Part
        if (module, name) == ("builtins", "slice"):
            return slice
        if (module, name) == ("numpy.core.multiarray", "scalar"):
            return np._core.multiarray.scalar  # type: ignore[attr-defined]
        return super().find_class(module, name)


def table(path: Path) -> dict[str, Any]:
    """The columns of a table that pandas pickled."""
    with path.open("rb") as file:
        parts = Frame(file).load().state["_data"].state[3]["0.14.1"]
    columns: dict[str, Any] = {}
    names = parts["axes"][0]
    for block in parts["blocks"]:
        places = block["mgr_locs"]
        places = range(*places.indices(len(names))) if isinstance(places, slice) else places
        columns |= {names[i]: values for i, values in zip(places, block["values"], strict=True)}
    return columns


def message(data: bytes) -> dict[int, list[Any]]:
    """The fields of a message of protocol buffers by number; numbers are signed, of 64 bits."""
    fields: dict[int, list[Any]] = defaultdict(list)
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value - (value >> 63 << 64)

    while at < len(data):
        key = number()
        if key & 7 == 0:
            fields[key >> 3].append(number())
        else:
            size = {1: 8, 5: 4}.get(key & 7) or number()
            fields[key >> 3].append(data[at : at + size])
            at += size
    return fields


def constant(data: bytes) -> Tensor:
    """A tensor of an ONNX file, stored raw: float32 or int64."""
    fields = message(data)
    values = np.frombuffer(fields[9][0], {1: "<f4", 7: "<i8"}[fields[2][0]])
    return torch.from_numpy(values.copy()).reshape(fields[1])


def attributes(node: dict[int, list[Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for fields in map(message, node[5]):
        value = struct.unpack("<f", fields[2][0])[0] if fields[2] else fields[8] or (fields[3] or [None])[0]
        found[fields[1][0].decode()] = constant(fields[5][0]) if fields[5] else value
    return found


OPERATORS: dict[str, Any] = {  # of inputs and attributes
    "Add": lambda v, a: v[0] + v[1],
    "Mul": lambda v, a: v[0] * v[1],
    "MatMul": lambda v, a: v[0] @ v[1],
    "Gemm": lambda v, a: v[0] @ v[1].T + v[2],  # transB = 1
    "Relu": lambda v, a: v[0].relu(),
    "Sign": lambda v, a: v[0].sign(),
    "Softmax": lambda v, a: v[0].softmax(a["axis"]),
    "Conv": lambda v, a: functional.conv2d(
        v[0], v[1], v[2] if len(v) > 2 else None, a["strides"], a.get("pads", [0])[0]
    ),
    "MaxPool": lambda v, a: functional.max_pool2d(v[0], a["kernel_shape"], a["strides"]),
    "BatchNormalization": lambda v, a: functional.batch_norm(
        v[0], v[3], v[4], v[1], v[2], eps=a.get("epsilon", 1e-5)
    ),
    "ReduceMean": lambda v, a: v[0].mean(a["axes"]),
    "Transpose": lambda v, a: v[0].permute(a["perm"]),
    "Reshape": lambda v, a: v[0].reshape(v[1].tolist()),
    "Concat": lambda v, a: torch.cat(v, a["axis"]),
    "Unsqueeze": lambda v, a: v[0].unsqueeze(a["axes"][0]),
    "Gather": lambda v, a: v[0].select(a["axis"], int(v[1])),
    "Slice": lambda v, a: v[0][a["starts"][0] : a["ends"][0]],
    "Shape": lambda v, a: torch.tensor(v[0].shape),
    "Constant": lambda v, a: a["value"],
    "ConstantOfShape": lambda v, a: torch.full(v[0].tolist(), float(a["value"])),
}


class Graph(nn.Module):
    """A network of an ONNX file. A softmax at its end is left out; it keeps the order of the logits."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = message(message(unpacked(path))[7][0])
        self.places = {}
        for i, tensor in enumerate(graph[5]):
            self.places[message(tensor)[8][0]] = f"tensor{i}"
            self.register_buffer(f"tensor{i}", constant(tensor))
        nodes = [message(node) for node in graph[1]]
        nodes = nodes[:-1] if nodes[-1][4] == [b"Softmax"] else nodes
        self.nodes = [(n[4][0].decode(), n[1], n[2][0], attributes(n)) for n in nodes]
        self.taken = message(graph[11][0])[1][0]

    def forward(self, x: Tensor) -> Tensor:
        values = {self.taken: x, **{name: getattr(self, place) for name, place in self.places.items()}}
        for operator, takes, gives, named in self.nodes:
            values[gives] = OPERATORS[operator]([values[name] for name in takes], named)
        return values[self.nodes[-1][2]]


def unpacked(path: Path) -> bytes:
    """The content of a file that a repository may hold compressed."""
    path = path if path.exists() else Path(f"{path}.gz")
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


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
