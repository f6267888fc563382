"""Which of RobustBench's definitions load: writes benchmarks/robustbench_zoo.md.

    python benchmarks/robustbench_zoo.py [DATASET/THREAT/NAME ...]

`make benchmark-robustbench` runs it in an environment of its own that has the package robustbench. Every
definition is built there with random weights, affine parameters and statistics, its state dict saved to a
file, and the file loaded twice: from its weights alone, and with ``--arch robustbench:NAME``. A definition
counts where the logits of the two networks on random images are the same within 1e-5 of the largest (or
of 1). Without arguments all Linf definitions are tried; with some the table is printed and not written.
"""

import ctypes
import gc
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.libraries import robustbench_library
from robustbench_coded.models.loading import Checkpoint, load_checkpoint
from robustbench_coded.models.normalisation import KNOWN, Normalisation

TABLE = Path(__file__).with_suffix(".md")
TOLERANCE = 1e-5
SIZES = {"cifar10": 32, "cifar100": 32, "imagenet": 224}
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}


@dataclass
class Row:
    """How one definition loads; differences are of the logits, relative to the largest of them or to 1."""

    path: str
    alone: str = ""
    by_name: str = ""
    arch: str = ""
    loads: bool = False


def main(wanted: list[str]) -> None:
    warnings.simplefilter("ignore")
    rows = []
    for path, constructor in _definitions():
        if wanted and path not in wanted:
            continue
        start = time.perf_counter()
        row = _measured(path, constructor)
        rows.append(row)
        seconds = time.perf_counter() - start
        print(f"{path}: alone: {row.alone}; by name: {row.by_name} ({seconds:.0f} s)", flush=True)
        _give_back_memory()
    text = _table(rows)
    if wanted:
        print(text)
    else:
        TABLE.write_text(text, encoding="utf-8")


def _definitions():
    zoo = robustbench_library.zoo()
    for dataset, threats in zoo.items():
        for name, constructor in threats["Linf"].items():
            yield f"{dataset}/Linf/{name}", constructor


def _measured(path: str, constructor) -> Row:
    row = Row(path)
    dataset = path.partition("/")[0]
    try:
        network = robustbench_library.define(path, constructor).network.eval()
    except InputError as error:
        row.alone = row.by_name = f"cannot be built here: {_reason(error)}"
        return row
    _randomise(network)
    side = SIZES[dataset]
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(pixels)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pt"
        torch.save(network.state_dict(), file)
        del network
        _give_back_memory()
        row.alone, row.arch, alone = _alone(file, pixels, expected)
        _give_back_memory()
        row.by_name, named = _named(file, path, pixels, expected)
    row.loads = alone or named
    return row


def _randomise(network: nn.Module) -> None:
    """Affine parameters and statistics away from their initial values; convolutions keep their scale."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | nn.LayerNorm | nn.GroupNorm):
                for parameter in (module.weight, module.bias):
                    if parameter is not None:
                        noise = torch.rand(parameter.shape, generator=generator) - 0.5
                        parameter.add_(0.5 * noise)
            if isinstance(getattr(module, "running_var", None), Tensor):
                module.running_mean.add_(0.2 * torch.randn(module.running_mean.shape, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))


def _alone(file: Path, pixels: Tensor, expected: Tensor) -> tuple[str, str, bool]:
    """What became of the file without a word about it: a clause, the architecture, whether it is right."""
    try:
        checkpoint = load_checkpoint(file)
    except InputError as error:
        return f"no: {_reason(error)}", "", False
    if checkpoint.normalisation is not None:
        difference = _difference(checkpoint, checkpoint.normalisation, pixels, expected)
        return _verdict(difference), checkpoint.arch, difference <= TOLERANCE
    tried = {
        name: _difference(checkpoint, normalisation, pixels, expected)
        for name, normalisation in KNOWN[checkpoint.channels].items()
    }
    best = min(tried, key=lambda name: tried[name])
    if tried[best] <= TOLERANCE:
        return f"yes, data choose the normalisation ({best}; {tried[best]:.0e})", checkpoint.arch, True
    return _verdict(tried[best]), checkpoint.arch, False


def _named(file: Path, path: str, pixels: Tensor, expected: Tensor) -> tuple[str, bool]:
    try:
        checkpoint = load_checkpoint(file, arch=f"robustbench:{path}")
    except InputError as error:
        return f"no: {_reason(error)}", False
    if checkpoint.normalisation is None:
        return "no: its normalisation is open", False
    difference = _difference(checkpoint, checkpoint.normalisation, pixels, expected)
    own = "own code" if not checkpoint.arch.startswith("robustbench:") else "the package's"
    return f"{_verdict(difference)}, {own}", difference <= TOLERANCE


def _difference(
    checkpoint: Checkpoint, normalisation: Normalisation, pixels: Tensor, expected: Tensor
) -> float:
    from robustbench_coded.models.pixel_model import PixelModel

    model = PixelModel(
        checkpoint.network,
        normalisation.mean,
        normalisation.std,
        classes=checkpoint.classes,
        arch=checkpoint.arch,
    )
    with torch.no_grad():
        found = model(pixels)
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1))


def _verdict(difference: float) -> str:
    return f"{'yes' if difference <= TOLERANCE else 'no, another function'} ({difference:.0e})"


def _reason(error: Exception) -> str:
    return str(error).partition(": ")[2].replace("|", "/")[:200]


def _give_back_memory() -> None:
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _table(rows: list[Row]) -> str:
    lines = [
        "# RobustBench's definitions and how they load",
        "",
        "Made by `make benchmark-robustbench`. Each definition of the package robustbench was built with",
        "random weights, affine parameters and statistics; its state dict was saved, and loaded from the",
        "weights alone and with `--arch robustbench:NAME`. In brackets: the largest difference of a logit on",
        "two random images, relative to the largest logit (or to 1). `own code` needs no further package,",
        "`the package's` needs robustbench installed.",
        "",
    ]
    for dataset, title in TITLES.items():
        members = [row for row in rows if row.path.startswith(f"{dataset}/")]
        if not members:
            continue
        loads = sum(row.loads for row in members)
        lines += [f"## {title}, Linf: {loads} of {len(members)}", ""]
        lines += [
            "| definition | from the weights alone | architecture | with the name |",
            "| :-- | :-- | :-- | :-- |",
        ]
        for row in members:
            name = row.path.rpartition("/")[2]
            lines.append(f"| {name} | {row.alone} | {row.arch or '-'} | {row.by_name} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
