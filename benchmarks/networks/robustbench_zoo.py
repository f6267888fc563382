"""Which of RobustBench's definitions load: writes benchmarks/networks/robustbench_zoo.md.

    python benchmarks/networks/robustbench_zoo.py [--rows FILE] [DATASET/THREAT/NAME ...]

`benchmarks/networks/robustbench_zoo.sh` runs it in an environment of its own that has the package
robustbench. Every
definition is built there with random weights, affine parameters and statistics, its state dict saved to a
file, and the file loaded twice: from its weights alone, and with ``--arch robustbench:NAME``. A definition
counts where the logits of the two networks on random images are the same within 1e-5 of the largest (or
of 1). Without names all Linf definitions are tried; with some the table is printed and not written. FILE
keeps the rows, so that a stopped measurement goes on; it is for one state of the code.
"""

import ctypes
import gc
import hashlib
import json
import re
import sys
import tempfile
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.smoke import smoke
from robustbench_coded.errors import InputError
from robustbench_coded.extras.libraries import robustbench as robustbench_library
from robustbench_coded.extras.libraries.robustbench import own_definitions
from robustbench_coded.models import loading
from robustbench_coded.models.archive import read_archive
from robustbench_coded.models.detect import construct
from robustbench_coded.models.loading import Checkpoint, load_checkpoint
from robustbench_coded.models.normalisation import KNOWN, Normalisation
from robustbench_coded.models.recognition import networks_of

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
    loads: bool = False
    key: str = ""  # equal where definitions are the same network and mean the same to us


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("--rows", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    stored, wanted = options.rows, options.names
    warnings.simplefilter("ignore")
    lines = stored.read_text().splitlines() if stored is not None and stored.exists() else []
    done = {row.path: row for row in (Row(**json.loads(line)) for line in lines)}
    measured = {row.key: row for row in done.values() if row.key}
    rows: list[Row] = []
    for path, constructor in _definitions():
        if wanted and path not in wanted:
            continue
        if path not in done:
            start = time.process_time()
            done[path] = row = _row(path, constructor, measured)
            seconds = time.process_time() - start
            print(f"{path} | alone: {row.alone}; by name: {row.by_name} ({seconds:.0f} s)", flush=True)
            if stored is not None:
                with stored.open("a") as file:
                    file.write(f"{json.dumps(asdict(row))}\n")
            _give_back_memory()
        rows.append(done[path])
    text = _table(rows)
    if wanted:
        print(text)
    else:
        TABLE.write_text(text, encoding="utf-8")


def _definitions():
    for path, constructor in robustbench_library.zoo().items():
        if "/Linf/" in path:
            yield path, constructor


def _row(path: str, constructor, measured: dict[str, Row]) -> Row:
    """What is measured, or was on another definition that is the same network and means the same to us."""
    try:
        try:
            with _without_initialisation():
                network = robustbench_library.robustbench_definition(path, constructor).network.eval()
        except InputError:  # some check what their initialisation made
            network = robustbench_library.robustbench_definition(path, constructor).network.eval()
    except InputError as error:
        reason = f"cannot be built here: {_reason(error)}"
        return Row(path, reason, reason)
    means = [(own.arch, str(own.normalisation)) for own in own_definitions(path, None)]
    key = f"{path.partition('/')[0]} {means} {_signature(network)}"
    if not means or key not in measured:
        measured[key] = replace(_measured(path, network), key=key)
    return replace(measured[key], path=path)


def _signature(network: nn.Module) -> str:
    """Equal for networks that are the same function of their weights: classes, settings, buffers, names."""
    digest = hashlib.sha256(f"{type(network)} {network}".encode())
    for name, module in network.named_modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str | tuple)}
        digest.update(f"{name} {type(module)} {sorted(plain.items())}".encode())
    shapes = [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]
    digest.update(f"{shapes}".encode())
    for name, buffer in network.named_buffers():
        if not name.endswith(("running_mean", "running_var")):
            digest.update(f"{name} {buffer.tolist() if buffer.numel() < 100 else buffer.sum()}".encode())
    return digest.hexdigest()


def _measured(path: str, network: nn.Module) -> Row:
    row = Row(path)
    dataset = path.partition("/")[0]
    side = SIZES[dataset]
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    expected = _answer(network, pixels)
    if expected is None:
        row.alone = row.by_name = "not compared: with random weights the definition itself gives no logits"
        return row
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pt"
        torch.save(network.state_dict(), file)
        del network
        _give_back_memory()
        archive = read_archive(file)  # once for both: what a file holds does not depend on the name
        with mock.patch.object(loading, "read_archive", lambda _: archive):
            row.alone, alone = _alone(file, pixels, expected)
            _give_back_memory()
            row.by_name, named = _named(file, path, pixels, expected)
    row.loads = alone or named
    return row


@contextmanager
def _without_initialisation() -> Iterator[None]:
    """Inside, parameters keep whatever memory held: all are overwritten, and filling them takes minutes."""

    def unchanged(tensor: Tensor, *_: object, **__: object) -> Tensor:
        return tensor

    with mock.patch.object(Tensor, "normal_", unchanged), mock.patch.object(Tensor, "uniform_", unchanged):
        yield


@torch.no_grad()
def _answer(network: nn.Module, pixels: Tensor) -> Tensor | None:
    """The logits of a definition that gets random weights, smaller ones where it does not bear them."""
    for gain in (1.0, 0.3):
        _randomise(network, gain)
        try:
            logits = network(pixels)
        except Exception:  # some assert that nothing inside them is NaN
            continue
        if logits.isfinite().all():
            return logits
    return None


def _randomise(network: nn.Module, gain: float) -> None:
    """Weights at ``gain`` times He's scale; affine parameters around 1 and 0, statistics likewise."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(1_000_003, generator=generator)
    norms = (nn.BatchNorm2d, nn.BatchNorm1d, nn.LayerNorm, nn.GroupNorm)
    affine = {
        id(module.weight)
        for module in network.modules()
        if isinstance(module, norms) or type(module).__name__ == "LayerNorm"
        if module.weight is not None
    }
    for place, parameter in enumerate(network.parameters()):
        offset = 7919 * place % 500_000
        draws = pool[offset:].repeat(parameter.numel() // (len(pool) - offset) + 1)[: parameter.numel()]
        draws = draws.view(parameter.shape)
        if parameter.ndim >= 2:
            parameter.copy_(draws * gain * (2 / max(1, parameter[0].numel())) ** 0.5)
        else:
            parameter.copy_((1.0 if id(parameter) in affine else 0.0) + 0.1 * draws)
    for module in network.modules():
        mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
        if isinstance(mean, Tensor) and isinstance(var, Tensor):
            mean.copy_(0.2 * torch.randn(mean.shape, generator=generator))
            var.copy_(0.5 + torch.rand(var.shape, generator=generator))


def _alone(file: Path, pixels: Tensor, expected: Tensor) -> tuple[str, bool]:
    """What became of the file without a word about it: a clause, and whether the network is right."""
    try:
        checkpoint = load_checkpoint(file)
    except InputError as error:
        return f"no: {_reason(error)}", False
    stored = checkpoint.normalisation
    normalisations = {"stored": stored} if stored else KNOWN[checkpoint.channels]
    for variant, network in _variants(checkpoint):
        for name, normalisation in normalisations.items():
            difference = _difference(replace(checkpoint, network=network), normalisation, pixels, expected)
            if difference <= TOLERANCE:
                open_parts = [] if stored else [f"the normalisation ({name})"]
                open_parts += ["the variant"] if variant != checkpoint.arch else []
                chosen = f", data choose {' and '.join(open_parts)}" if open_parts else ""
                return f"yes{chosen} ({difference:.0e})", True
    return "no, another function", False


def _variants(checkpoint: Checkpoint) -> Iterator[tuple[str, nn.Module]]:
    """The network as recognised, then the others that have the same weights."""
    yield checkpoint.arch, checkpoint.network
    for variant in networks_of(checkpoint)[1:]:
        network = construct(variant, checkpoint.classes, checkpoint.channels)
        network.load_state_dict(checkpoint.network.state_dict(), assign=True)
        yield variant, network.eval()


def _named(file: Path, path: str, pixels: Tensor, expected: Tensor) -> tuple[str, bool]:
    try:
        checkpoint = load_checkpoint(file, arch=f"robustbench:{path}")
    except InputError as error:
        return f"no: {_reason(error)}", False
    if checkpoint.normalisation is None:
        return "no: its normalisation is open", False
    difference = _difference(checkpoint, checkpoint.normalisation, pixels, expected)
    library = checkpoint.arch.partition(":")[0] if ":" in checkpoint.arch else ""
    own = {"": "own code", "robustbench": "the package's"}.get(library, f"{library}'s")
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
    text = re.sub(r"\. .*http.*", "", str(error).partition(": ")[2]).replace(
        "|", "/"
    )  # where to get a driver
    return text.replace("; pass --arch NAME or --arch package.module:function", "")[:200]


def _give_back_memory() -> None:
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _table(rows: list[Row]) -> str:
    lines = [
        "# RobustBench's definitions and how they load",
        "",
        "Made by `benchmarks/networks/robustbench_zoo.sh`. Each definition of the package robustbench was",
        "built with",
        "random weights, affine parameters and statistics; its state dict was saved, and loaded from the",
        "weights alone and with `--arch robustbench:NAME`. In brackets: the largest difference of a logit on",
        "a random image, relative to the largest logit (or to 1). From weights alone, random ones, nothing",
        "tells which normalisation and which form of a part without weights is right. Where an evaluation",
        "tries the right one on its data, the table says that data choose it; the DM networks' own (0.2471",
        "where CIFAR-10's is 0.2470) is not tried. With the name, `own code` needs no further package,",
        "`timm's` needs timm, and `the package's` needs robustbench installed. Definitions that are the same",
        "network and mean the same architecture and normalisation here were measured once.",
        "",
    ]
    for dataset, title in TITLES.items():
        members = [row for row in rows if row.path.startswith(f"{dataset}/")]
        if not members:
            continue
        loads = sum(row.loads for row in members)
        lines += [f"## {title}, Linf: {loads} of {len(members)}", ""]
        lines += [
            "| definition | from the weights alone | with the name |",
            "| :-- | :-- | :-- |",
        ]
        for row in members:
            name = row.path.rpartition("/")[2]
            lines.append(f"| {name} | {row.alone} | {row.by_name} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    smoke(needs="the package robustbench, which robustbench_zoo.sh installs")
    main()
