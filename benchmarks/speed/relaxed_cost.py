"""What a gradient costs with relaxed operators, beside a plain one: processor seconds, in interleaved pairs.

    python benchmarks/speed/relaxed_cost.py [--shared ../shared] [--pairs 15]

Writes benchmarks/speed/relaxed_cost.md. One thread, and the processor time of this process: what else the
machine
does costs less than it costs a clock on the wall. Random images serve, for time does not depend on them.
"""

import argparse
import os
import platform
import time
from pathlib import Path
from statistics import median, quantiles

import torch
from torch import Tensor

from attacks.estimators import FreshDraws
from attacks.losses import cross_entropy
from attacks.relaxation import Relaxation
from benchmarks.bench.table import pipes
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.runs.atomic import write_text

ROOT = Path(__file__).parents[2]
OUT = Path(__file__).with_suffix(".md")
# Networks, the shape of their images, and images a gradient: operators of the first hide it.
NETWORKS = (
    ("lwta-wrn34-1", "{shared}/checkpoints/lwta-wrn34-1.pt", (3, 32, 32), 64),
    ("cifar10-pgd-at-resnet20", "checkpoints/cifar10-pgd-at-resnet20.safetensors", (3, 32, 32), 64),
    ("digits-pgd-at", "checkpoints/digits-pgd-at.safetensors", (1, 8, 8), 256),
)
ABOUT = """# What relaxed operators cost

Processor seconds of one gradient of cross-entropy, single-threaded, plain and with `relaxed-`, in turns;
medians, with quartiles in brackets. The ratio is formed within each pair. Other programs of the machine share
caches and memory with this one and make it slower, never faster: the last column divides the least of the
relaxed times by the least of the plain ones.
{machine}

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shared", default=str(ROOT / ".." / "shared"), help="folder of the LWTA network")
    parser.add_argument("--pairs", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = [("network", "images", "plain, ms", "relaxed, ms", "ratio", "of the least")]
    for name, path, shape, images in NETWORKS:
        plain, relaxed = measured(ROOT / path.format(shared=given.shared), shape, images, given.pairs)
        ratios = [r / p for p, r in zip(plain, relaxed, strict=True)]
        cells = (_spread([1000 * s for s in plain], 0), _spread([1000 * s for s in relaxed], 0))
        table.append((name, str(images), *cells, _spread(ratios, 2), f"{min(relaxed) / min(plain):.2f}"))
        print(table[-1], flush=True)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    machine = f"torch {torch.__version__}, {platform.machine()}, {given.pairs} pairs; load {load:.1f} a core."
    write_text(OUT, f"{ABOUT.format(machine=machine)}{pipes(table)}\n")


def measured(path: Path, shape: tuple[int, ...], images: int, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of each plain gradient, and of the relaxed one after it; the first pair is not counted."""
    checkpoint = load_checkpoint(path)
    stored = checkpoint.normalisation
    mean, std = (stored.mean, stored.std) if stored is not None else ((0.0,) * shape[0], (1.0,) * shape[0])
    network = PixelModel(checkpoint.network, mean, std, classes=10, arch=path.stem).eval()
    x = torch.rand(images, *shape, generator=torch.Generator().manual_seed(0))
    defence = as_defence(network, None, name="model", origin="expected a module, got")
    target = Target(defence, images, 0, [0])
    estimators = FreshDraws(target), FreshDraws(target)
    estimators[1].relaxation = Relaxation()
    found: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs + 1):
        for kept, estimator in zip(found, estimators, strict=True):
            seconds = _gradient(estimator, x)
            if pair:
                kept.append(seconds)
    return found


def _gradient(estimator: FreshDraws, x: Tensor) -> float:
    begun = time.process_time()
    estimator.gradient(x[None], torch.zeros(1, len(x), dtype=torch.int64), cross_entropy)
    return time.process_time() - begun


def _spread(values: list[float], digits: int) -> str:
    low, _, high = quantiles(values, n=4)
    return f"{median(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
