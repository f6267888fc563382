"""Exact least margins of small networks trained here on MNIST, by a mixed-integer program for each class.

HiGHS solves it, through SciPy; its bounds on ReLUs are intervals computed here: nothing of it comes from what
is measured.
"""

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, lil_array
from torch import Tensor, nn

from robustbench_coded.models.pixel_model import PixelModel

EPOCHS = 8
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
