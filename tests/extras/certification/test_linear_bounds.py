"""Linear bounds against exact minima, a dense implementation of their own rule, and attacks."""

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded.extras.certification import bounds as linear_bounds
from robustbench_coded.extras.certification.affine import Bend, Lines
from robustbench_coded.extras.certification.bounds import BEYOND, Region, intervals
from robustbench_coded.extras.certification.graph import graph_of
from robustbench_coded.models.architectures.digits_cnn import DigitsCNN
from robustbench_coded.models.architectures.resnet_cifar import ResNetCifar
from robustbench_coded.models.pixel_model import PixelModel
from tests.extras.certification.conftest import exact_least, images, lowest_lead, seeded

pytestmark = pytest.mark.long


def margins(graph, region, y):
    return linear_bounds.margins(graph, region, linear_bounds.refined(graph, region), y)


def true_least(network, x, y, eps, c):
    low = (x - eps).clamp(0, 1).flatten().double().numpy()
    high = (x + eps).clamp(0, 1).flatten().double().numpy()
    objective = np.eye(3)[y] - np.eye(3)[c]
    return exact_least(network, low, high, objective)


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.3])
def test_the_true_least_margin_lies_above_the_bound_and_near_it(one_hidden, eps):
    x = images(4, 1, 2, 2)
    y = one_hidden(x).argmax(1)
    graph = graph_of(one_hidden, x)
    found = margins(graph, Region.around(x, "linf", eps), y)
    for i in range(4):
        for c in range(3):
            if c == y[i]:
                assert found[i, c] == torch.inf
                continue
            least = true_least(one_hidden, x[i], int(y[i]), eps, c)
            assert found[i, c] <= least + 1e-6
            assert found[i, c] >= least - 6 * eps  # within what the lines may cost at this size


def test_lines_that_lie_above_a_relu_would_be_noticed(one_hidden, monkeypatch):
    """The planted fault: the upper line through the origin, below the ReLU for negative inputs."""
    x = images(16, 1, 2, 2)
    y = one_hidden(x).argmax(1)
    graph, eps = graph_of(one_hidden, x), 0.3
    original = Bend.lines
    monkeypatch.setattr(Bend, "lines", lambda *a, **k: Lines(*original(*a, **k)[:2], torch.zeros_like(a[1])))
    found = margins(graph, Region.around(x, "linf", eps), y)
    wrong = [
        found[i, c] > true_least(one_hidden, x[i], int(y[i]), eps, c) + 1e-3
        for i in range(16)
        for c in range(3)
        if c != y[i]
    ]
    assert any(wrong)


def dense_layers(network, x):
    """(matrix, constant) of every affine part between ReLUs, from what it does to unit vectors."""
    parts, shape, run = [], x.shape[1:], []
    for module in [*network.double(), None]:
        if module is not None and not isinstance(module, nn.ReLU):
            run.append(module)
            continue
        part = nn.Sequential(*run)
        zero = part(torch.zeros(1, *shape, dtype=torch.float64))
        basis = torch.eye(shape.numel(), dtype=torch.float64).view(-1, *shape)
        parts.append(((part(basis) - zero).flatten(1).T.numpy(), zero.flatten().numpy()))
        shape, run = zero.shape[1:], []
    return parts


def crown(parts, low, high, objective, parallel):
    """CROWN for one image, written out with dense matrices."""
    bounds = []

    def below(row, depth, parallel=False):
        constant = 0.0
        for layer in range(depth, -1, -1):
            matrix, shift = parts[layer]
            constant += row @ shift
            row = row @ matrix
            if layer == 0:
                break
            least, most = bounds[layer - 1]
            unstable = (least < 0) & (most > 0)
            chord = np.where(unstable, most / np.where(unstable, most - least, 1), most > 0)
            lower = np.where(unstable, chord if parallel else most > -least, most > 0).astype(float)
            constant += np.sum(np.where(row < 0, row * np.where(unstable, -chord * least, 0), 0))
            row = np.where(row > 0, row * lower, row * chord)
        return constant + np.where(row > 0, low, high) @ row

    for depth in range(len(parts) - 1):
        size = parts[depth][0].shape[0]
        ends = [[below(sign * np.eye(size)[i], depth) for i in range(size)] for sign in (1, -1)]
        least, most = np.array(ends[0]), -np.array(ends[1])
        bounds.append((least, most))
    return below(objective, len(parts) - 1, parallel)


@pytest.mark.parametrize("parallel", [False, True])
def test_equal_to_a_dense_implementation(parallel):
    """Intermediate bounds by the nearer branch, as there; margins by each slope."""
    network = seeded(
        nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3, stride=2),
            nn.ReLU(), nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4),
        )
    )  # fmt: skip
    x = images(3, 1, 5, 5)
    graph = graph_of(network, x)
    region = Region.around(x, "linf", 0.1)
    bounds = linear_bounds.refined(graph, region)
    bound = linear_bounds.backward(
        graph, bounds, len(graph.steps), linear_bounds.ahead(torch.tensor([1, 2, 0]), 4), parallel=parallel
    )
    found = region.least(bound.a) + bound.constant
    parts = dense_layers(network, x)
    for i, y in enumerate([1, 2, 0]):
        low, high = (end[i].flatten().numpy() for end in (region.low, region.high))
        for c in range(4):
            expected = crown(parts, low, high, np.eye(4)[y] - np.eye(4)[c], parallel)
            assert found[i, c].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["digits", "resnet", "leaky", "max-pool", "absolute"])
def test_no_attack_goes_below_the_bound(name, norm):
    networks = {
        "digits": lambda: DigitsCNN(classes=3, width=2),
        "resnet": lambda: ResNetCifar(classes=3, in_channels=1, depth=8),
        "leaky": lambda: DigitsCNN(classes=3, width=2, activation="leaky-relu-0.2"),
        "max-pool": lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 3)
        ),
        "absolute": Absolute,
    }
    model = PixelModel(seeded(networks[name](), 1), (0.3,), (0.4,), classes=3, arch="test")
    x = images(2, 1, 8, 8)
    y = model(x).argmax(1)
    eps = 0.03 if norm == "linf" else 0.2
    region = Region.around(x, norm, eps)
    graph = graph_of(model, x)
    bounds = linear_bounds.refined(graph, region) if name != "resnet" else intervals(graph, region)
    bound = linear_bounds.margins(graph, region, bounds, y).amin(1)
    lowest = lowest_lead(model, x, y, norm, eps)
    assert (bound <= lowest + 1e-5).all()
    if name not in ("resnet", "max-pool"):
        start = margins(graph, Region.around(x, norm, 0.0), y).amin(1)
        assert (lowest - bound < 3 * (start - lowest) + 1e-2).all()  # and it is not far below


class Absolute(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.second(self.first(x.flatten(1)).abs())


def test_exact_where_no_bend_changes_its_branch():
    model = PixelModel(seeded(DigitsCNN(classes=3, width=2)), (0.3,), (0.4,), classes=3, arch="test")
    x = images(4, 1, 4, 4)
    y = model(x).argmax(1)
    found = margins(graph_of(model, x), Region.around(x, "linf", 0.0), y)
    logits = model(x)
    torch.testing.assert_close(
        found.scatter(1, y[:, None], 0.0).float(), logits.gather(1, y[:, None]) - logits, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_exact_for_linear_maps(norm):
    """Away from the box: the lead less eps times the dual norm of the weights' difference."""
    network = seeded(nn.Sequential(nn.Flatten(), nn.Linear(9, 4)))
    x = 0.4 + 0.2 * images(5, 1, 3, 3)
    y = torch.tensor([0, 1, 2, 3, 0])
    eps = 0.05
    found = margins(graph_of(network, x), Region.around(x, norm, eps), y)
    w, b = network[1].weight.double(), network[1].bias.double()
    towards = w[y][:, None] - w
    lead = (towards * x.double().flatten(1)[:, None]).sum(2) + b[y][:, None] - b
    dual = towards.abs().sum(2) if norm == "linf" else towards.norm(dim=2)
    expected = (lead - eps * dual).scatter(1, y[:, None], torch.inf)
    torch.testing.assert_close(found, expected, atol=40 * BEYOND, rtol=0)
