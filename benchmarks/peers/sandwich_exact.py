"""Bounds and attacks beside exact least margins, on two small networks trained here on MNIST.

    python benchmarks/peers/sandwich_exact.py --data DIR            prints the table
    python benchmarks/peers/sandwich_exact.py --data DIR --write    and puts it into `sandwich.md`

DIR has MNIST's test images, t10k-*: the networks are trained on all but the last of these. The truth is that
of a mixed-integer program for each class (HiGHS, through SciPy), whose bounds on ReLUs are intervals computed
here: nothing of it comes from what is measured.
"""

import argparse
import gzip
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, lil_array
from torch import Tensor, nn

from benchmarks.errors.coverage import write
from benchmarks.peers.sandwich import ATTACKS, LAST, PAGE, Record, begun, contradicts, outcome, tried
from benchmarks.peers.sandwich_networks import Instance
from robustbench_coded.extras.certification.graph import graph_of
from robustbench_coded.models.pixel_model import PixelModel

NETWORKS = {"784-20-20-10": ((20, 20), 0.03), "784-40-10": ((40,), 0.03)}  # widths, and eps
IMAGES, EPOCHS = 20, 8
GAP = 1e-6  # of the solver's bound to its solution, and of constraints


def digits(folder: Path) -> tuple[Tensor, Tensor]:
    """Images [n, 1, 28, 28] in [0, 1] and labels [n]."""
    pixels = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    x = torch.tensor(np.frombuffer(pixels, np.uint8).reshape(-1, 1, 28, 28) / np.float32(255))
    return x, torch.tensor(np.frombuffer(labels, np.uint8).astype(np.int64))


def trained(widths: tuple[int, ...], x: Tensor, y: Tensor, name: str) -> PixelModel:
    """Linear layers and ReLUs, trained by Adam on clean images."""
    torch.manual_seed(0)
    sizes = [784, *widths, 10]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(network.parameters(), 2e-3, weight_decay=1e-4)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimiser.step()
    return PixelModel(network, (0.0,), (1.0,), classes=10, arch=name)


def least_margin(model: PixelModel, low: Tensor, high: Tensor, label: int) -> float:
    """The least lead of ``label`` over any other class for pixels from low to high [1, 28, 28]."""
    linear = [m for m in model.network.modules() if isinstance(m, nn.Linear)]
    layers = [(m.weight.double().numpy(), m.bias.double().numpy()) for m in linear]
    ends = low.flatten().numpy(), high.flatten().numpy()
    # Variables: pixels, then for each hidden layer its outputs and their signs.
    lower, upper, whole, constraints = [ends[0]], [ends[1]], [np.zeros(784)], []
    total = 784 + 2 * sum(len(b) for _, b in layers[:-1])
    first, end = 0, 784
    for weight, bias in layers[:-1]:
        middle, radius = weight @ (ends[0] + ends[1]) / 2 + bias, np.abs(weight) @ (ends[1] - ends[0]) / 2
        least, most = middle - radius, middle + radius
        n = len(bias)
        # out >= z; out <= z - least (1 - sign); out <= most sign; z = weight @ before + bias.
        for side, signs, at_most in (
            (1.0, 0.0, -bias),
            (-1.0, -np.minimum(least, 0), bias - np.minimum(least, 0)),
        ):
            rows = lil_array((n, total))
            rows[:, first : first + weight.shape[1]] = side * weight
            rows[:, end : end + n] = -side * np.eye(n)
            rows[:, end + n : end + 2 * n] = np.diag(np.broadcast_to(signs, n))
            constraints.append(LinearConstraint(csr_array(rows), -np.inf, at_most))
        rows = lil_array((n, total))
        rows[:, end : end + n] = np.eye(n)
        rows[:, end + n : end + 2 * n] = -np.diag(np.maximum(most, 0))
        constraints.append(LinearConstraint(csr_array(rows), -np.inf, np.zeros(n)))
        ends = np.maximum(least, 0), np.maximum(most, 0)
        lower += [ends[0], np.zeros(n)]
        upper += [ends[1], np.ones(n)]
        whole += [np.zeros(n), np.ones(n)]
        first, end = end, end + 2 * n
    weight, bias = layers[-1]
    box, found = Bounds(np.concatenate(lower), np.concatenate(upper)), np.inf
    logits = model(((low + high) / 2).float()[None])[0]
    for c in logits.argsort(descending=True).tolist():
        if c == label:
            continue
        objective = np.zeros(total)
        objective[first : first + weight.shape[1]] = weight[label] - weight[c]
        # Without whole numbers first: a class whose lower bound lies above another's least needs no more.
        for integrality in (None, np.concatenate(whole)):
            options = {"mip_rel_gap": GAP}
            solved = milp(
                objective, constraints=constraints, bounds=box, integrality=integrality, options=options
            )
            assert solved.status == 0, solved.message
            least_of_class = solved.fun + bias[label] - bias[c]
            if least_of_class >= found:
                break
        found = min(found, least_of_class)
    return float(found)


def judged(x: Tensor, y: Tensor) -> Iterator[Record]:
    """A record of each image of each network, with the exact ``least`` margin and its ``exact_seconds``."""
    for name, (widths, eps) in NETWORKS.items():
        model = trained(widths, x[:-1000], y[:-1000], name)
        right = (model(x[-1000:]).argmax(1) == y[-1000:]).nonzero().flatten()[:IMAGES] + len(x) - 1000
        graph, pairs = graph_of(model, x[:2]), []
        for i in right.tolist():
            image, label = x[i].double(), int(y[i])
            low, high = (image - eps).clamp(0, 1), (image + eps).clamp(0, 1)
            started = time.process_time()
            least = least_margin(model, low, high, label)
            seconds = time.process_time() - started
            broken = least <= 0
            one = Instance("own", Path(name), str(i), low, high, label, None, int(not broken), int(broken))
            pairs.append((one, begun(model, graph, one) | {"least": least, "exact_seconds": seconds}))
        for attack in (*ATTACKS, LAST):
            if left := [(one, r) for one, r in pairs if not r["by"] and (attack != LAST or r["bound"] <= 0)]:
                tried(model, attack, [one for one, _ in left], [r for _, r in left])
        yield from (record for _, record in pairs)


def lines(records: list[Record]) -> Iterator[str]:
    """Markdown, a line a network."""
    yield (
        "| network | eps | images | robust | of these certified | broken | of these broken by attacks "
        "| contradictions | bound <= truth <= attacks | CPU seconds, exact |"
    )
    yield "| --- |" + " ---: |" * 9
    for name in NETWORKS:
        some = [r for r in records if r["network"] == name]
        robust, broken = ([r for r in some if r["published"] == word] for word in ("robust", "broken"))
        ordered = [r["bound"] <= r["least"] + GAP and r["least"] - GAP <= -r["reached"] for r in some]
        cells = (
            name,
            NETWORKS[name][1],
            len(some),
            len(robust),
            sum(outcome(r) == "certified" for r in robust),
            len(broken),
            sum(outcome(r) == "broken" for r in broken),
            sum(map(contradicts, some)),
            f"{sum(ordered)} of {len(some)}",
            f"{sum(r['exact_seconds'] for r in some) / len(some):.2g}",
        )
        yield f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with t10k-*")
    parser.add_argument("--write", action="store_true", help="put the table into sandwich.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = "\n".join(lines(list(judged(*digits(options.data)))))
    print(table)
    if options.write:
        write("exact", table, PAGE)


if __name__ == "__main__":
    main()
