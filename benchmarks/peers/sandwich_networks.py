"""Networks and instances of VNN-COMP 2021 and 2022, and what verifiers said of each, for `sandwich.py`.

An instance is a network, an image and a box of pixels. Verifiers proved that no pixels in the box are
answered wrongly (marabou-cifar10: answered with one class) or gave some that are. Networks are read from ONNX
files by the package onnx, which is no dependency, and compared with what onnx itself answers.
"""

import csv
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_coded.models.pixel_model import PixelModel

CIFAR, GREY = (3, 32, 32), (1, 28, 28)
# Of each benchmark: the shape of an image, and the mean and deviation that its boxes are normalised by.
BENCHMARKS: dict[str, tuple[tuple[int, int, int], tuple[float, ...], tuple[float, ...]]] = {
    "mnistfc": (GREY, (0.0,), (1.0,)),
    "eran": (GREY, (0.0,), (1.0,)),
    "oval21": (CIFAR, (0.485, 0.456, 0.406), (0.225, 0.225, 0.225)),
    "cifar10_resnet": (CIFAR, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "marabou-cifar10": (CIFAR, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "mnist_fc": (GREY, (0.0,), (1.0,)),
    "sri_resnet_a": (CIFAR, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "sri_resnet_b": (CIFAR, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
OF_2022 = ("mnist_fc", "sri_resnet_a", "sri_resnet_b")
# RPM misread its files, say the organisers (README of the results). The others call instances robust that
# several verifiers gave counterexamples of.
LEFT_OUT = {("RPM", "mnistfc")} | {
    (tool, benchmark) for tool in ("cgdtest", "marabou", "verapak") for benchmark in OF_2022
}
SAME = 1e-4  # logits of a network read here beside onnx's own, in largest logits
OUTSIDE = 1e-6  # pixels that float32 may put outside a box, moved back before the answer is checked


@dataclass(frozen=True)
class Instance:
    """One line of a benchmark, and what verifiers said of it.

    Attributes:
        path: of the network.
        spec: the name of its file, without the end.
        low, high: the box [C, H, W], float64, pixels in [0, 1].
        target: the class that must not be answered; None for any but ``label``.
        robust, broken: how many verifiers proved it, and how many found a counterexample.
    """

    benchmark: str
    path: Path
    spec: str
    low: Tensor
    high: Tensor
    label: int
    target: int | None
    robust: int
    broken: int

    @property
    def network(self) -> str:
        """Its name."""
        return self.path.stem

    @property
    def published(self) -> str:
        """``robust``, ``broken``, ``disputed`` or ``open``."""
        if self.robust and self.broken:
            return "disputed"
        return "robust" if self.robust else "broken" if self.broken else "open"

    @property
    def eps(self) -> float:
        """Half the widest side of the box: of a ball that the box [0, 1] cuts only in some pixels."""
        return float((self.high - self.low).max()) / 2

    @property
    def image(self) -> Tensor:
        """The middle of the ball [C, H, W], float64: a side that ends at 0 or 1 may be cut."""
        middle = (self.low + self.high) / 2
        middle = torch.where(self.low <= OUTSIDE, self.high - self.eps, middle)
        return torch.where(self.high >= 1 - OUTSIDE, self.low + self.eps, middle).clamp(0, 1)


def instances(root: Path, benchmark: str, names: Sequence[str]) -> Iterator[Instance]:
    """Those of a benchmark, in its order; only those of the networks ``names``, if there are any."""
    folder = root / "benchmarks" / benchmark
    if not folder.exists():  # of the other year
        return
    said = _said(root / "results_csv", benchmark)
    listed = "instances.csv" if benchmark in OF_2022 else f"{benchmark}_instances.csv"
    with (folder / listed).open() as lines:
        for network, spec, *_ in csv.reader(lines):
            if not names or Path(network).stem in names:
                words = said[Path(network).stem, Path(spec).stem]
                yield Instance(
                    benchmark,
                    folder / network,
                    Path(spec).stem,
                    *_read(folder / spec, benchmark),
                    robust=words.count("holds"),
                    broken=words.count("violated"),
                )


def _said(folder: Path, benchmark: str) -> dict[tuple[str, str], list[str]]:
    """What verifiers answered, by network and specification."""
    found = defaultdict(list)
    for path in sorted((*folder.glob("*.csv"), *folder.glob("*/results.csv"))):
        tool = path.parent.name if path.stem == "results" else path.stem
        for category, network, spec, _, result, *_ in csv.reader(path.open()):
            if category == benchmark and (tool, benchmark) not in LEFT_OUT:
                word = {"unsat": "holds", "sat": "violated"}.get(result.lower(), result)
                found[Path(network).stem, Path(spec).stem].append(word)
    return found


def _read(path: Path, benchmark: str) -> tuple[Tensor, Tensor, int, int | None]:
    """Low and high pixels, label and target of a specification."""
    shape, mean, std = BENCHMARKS[benchmark]
    text = path.read_text()
    ends = {}
    for sign in "<>":
        found = re.findall(rf"\(assert \({sign}= X_(\d+) (\S+?)\)\)", text)
        values = torch.full((len(found),), torch.nan, dtype=torch.float64)
        for number, value in found:
            values[int(number)] = float(value)
        if benchmark == "marabou-cifar10":
            values = values.view(*shape[1:], shape[0]).permute(2, 0, 1)
        scale, shift = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (std, mean))
        ends[sign] = (values.reshape(shape) * scale + shift).clamp(0, 1)  # by less than 1e-7
    pairs = re.findall(r"\(([<>])= Y_(\d+) Y_(\d+)\)", text)
    larger = {int(two if sign == "<" else one) for sign, one, two in pairs}
    smaller = {int(one if sign == "<" else two) for sign, one, two in pairs}
    low, high = ends[">"], ends["<"]
    assert bool((low <= high).all()) and len(pairs) == 9, path
    if len(larger) == 1:
        label = int(path.stem.partition("orig")[2])
        return low, high, label, larger.pop()
    return low, high, smaller.pop(), None


# Networks.


class Sum(nn.Module):
    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return one + two


class Permuted(nn.Module):
    def __init__(self, axes: Sequence[int]) -> None:
        super().__init__()
        self.axes = tuple(axes)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


class Moved(nn.Module):
    """x scale + shift."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Read(nn.Module):
    """A network as an ONNX file has it: operations in order, each of values with names."""

    def __init__(self, graph: Any, constant: dict[str, Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.wiring: list[tuple[list[str], str]] = []
        self.first, self.last = graph.input[0].name, graph.output[0].name
        for node in graph.node:
            if node.op_type != "Constant":
                given = [constant[name] for name in node.input if name in constant]
                self.layers.append(_layer(node, given, node.input[0] == self.first))
                self.wiring.append(([name for name in node.input if name not in constant], node.output[0]))

    def forward(self, x: Tensor) -> Tensor:
        known = {self.first: x}
        for layer, (names, made) in zip(self.layers, self.wiring, strict=True):
            known[made] = layer(*(known[name] for name in names))
        return known[self.last]


def _layer(node: Any, given: list[Tensor], first: bool) -> nn.Module:
    """A node as a module of the values that are no constants."""
    options: dict[str, Any] = {a.name: list(a.ints) or a.i for a in node.attribute}
    made: nn.Module
    match node.op_type:
        case "Conv":
            weight, *bias = given
            pads = options.get("pads", [0, 0, 0, 0])
            assert pads[:2] == pads[2:] and options.get("group", 1) == 1 and bias
            (rows, columns), (down, across) = weight.shape[2:], options["strides"]
            into, out = weight.shape[1], weight.shape[0]
            made = nn.Conv2d(into, out, (rows, columns), (down, across), (pads[0], pads[1]))
        case "Gemm" | "MatMul":
            weight, *bias = given
            weight = weight if options.get("transB") else weight.T
            made = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(bias))
        case "Transpose":  # the first one makes images [n, C, H, W] of [n, H, W, C]; here they are the former
            return nn.Identity() if first else Permuted(options["perm"])
        case "Add" if not given:
            return Sum()
        case "Add":
            return Moved(torch.ones(1), given[0])
        case "Sub":
            return Moved(torch.ones(1), -given[0])
        case "Div":
            return Moved(1 / given[0], torch.zeros(1))
        case _:
            plain = {"Relu": nn.ReLU, "Sigmoid": nn.Sigmoid, "Flatten": nn.Flatten, "Reshape": nn.Flatten}
            return plain[node.op_type]()
    made.load_state_dict({"weight": weight, **({"bias": bias[0]} if bias else {})})
    return made


def network(path: Path, benchmark: str, x: Tensor) -> PixelModel:
    """The network of a file.

    Args:
        x: images [n, C, H, W], float32, that it must answer as onnx itself does.
    """
    onnx = importlib.import_module("onnx")
    loaded = onnx.load(str(path))
    arrays = [(t.name, t) for t in loaded.graph.initializer]
    arrays += [(n.output[0], n.attribute[0].t) for n in loaded.graph.node if n.op_type == "Constant"]
    constant = {name: torch.tensor(onnx.numpy_helper.to_array(t)) for name, t in arrays}
    _, mean, std = BENCHMARKS[benchmark]
    model = PixelModel(Read(loaded.graph, constant), mean, std, classes=10, arch=path.stem)
    given = loaded.graph.input[0]
    reference = importlib.import_module("onnx.reference").ReferenceEvaluator(loaded)
    for image in x:
        fed = (image - model.mean[0]) / model.std[0]
        fed = fed.permute(1, 2, 0) if benchmark == "marabou-cifar10" else fed
        shape = [max(1, d.dim_value) for d in given.type.tensor_type.shape.dim]
        theirs = torch.tensor(reference.run(None, {given.name: fed.reshape(shape).numpy()})[0]).flatten()
        with torch.no_grad():
            ours = model(image[None])[0]
        assert float((ours - theirs).abs().max()) <= SAME * float(theirs.abs().max()), path
    return model
