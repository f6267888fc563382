"""What is read off a network, and what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_coded.extras.certification.graph import NotCertifiable, graph_of
from robustbench_coded.models.architectures.resnet import PreActResNet18
from robustbench_coded.models.architectures.resnet_cifar import ResNetCifar
from robustbench_coded.models.architectures.wide_resnet import WideResNet
from robustbench_coded.models.pixel_model import PixelModel
from tests.extras.certification.conftest import images, seeded


class Calls(nn.Module):
    """A network that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


NETWORKS = {
    "resnet": lambda: ResNetCifar(classes=4, depth=8),
    "resnet-mean": lambda: ResNetCifar(classes=4, depth=8, subsampling="mean", new_channels="behind"),
    "edges": lambda: Calls(
        lambda x: (
            F.pad(x, (0, 1, 0, 1), mode="replicate")[:, :, 1::4, 1::4].repeat(1, 2, 1, 1).flatten(1)[:, 8:12]
        )
    ),
    "preact": lambda: PreActResNet18(classes=4),
    "wide": lambda: WideResNet(classes=4, depth=10, width=1),
    "views": lambda: Calls(lambda x: (x.view(x.size(0), -1)[:, :4] * 3 - 1) / 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_is_the_network(name):
    model = PixelModel(seeded(NETWORKS[name]()), (0.3,) * 3, (0.4,) * 3, classes=4, arch="test")
    x = images(5, 3, 8, 8)
    graph = graph_of(model, x[:2])
    torch.testing.assert_close(graph.logits(x.double()).float(), model(x), atol=1e-4, rtol=1e-4)


def test_the_network_is_left_as_it_was():
    network = seeded(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    graph_of(network, images(2, 1, 2, 2))
    assert network[1].weight.dtype == torch.float32


REFUSED = {
    "gelu": (lambda x: F.gelu(x.flatten(1)), "gelu"),
    "its own square": (lambda x: x.flatten(1) * x.flatten(1), "mul of two values"),
    "one value twice": (lambda x: (lambda v: v * v)(x.flatten(1)), "mul"),
    "a quotient": (lambda x: 1 / (x.flatten(1) + 1), "div of a constant"),
    "a choice by value": (lambda x: torch.where(x.flatten(1) > 0.5, 1.0, 0.0), "gt"),
    "noise": (lambda x: x.flatten(1) + torch.rand_like(x.flatten(1)), "rand_like"),
    "the mean of the batch": (
        lambda x: x.flatten(1) - x.flatten(1).mean(0, keepdim=True),
        "mixes the images",
    ),
    "the batch turned round": (lambda x: x.flatten(1)[[1, 0]], "getitem"),
    "a branch": (lambda x: x.flatten(1) if x.sum() > 0 else -x.flatten(1), "can't be traced"),
    "pieces": (lambda x: x.flatten(1).chunk(2, 1)[0], "chunk"),
    "two answers": (lambda x: (x.flatten(1), x), "something else than one tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_bounds_is_refused(name):
    function, said = REFUSED[name]
    with pytest.raises(NotCertifiable, match=said):
        graph_of(Calls(function), images(2, 1, 2, 2))


def test_a_network_that_cannot_be_copied_is_refused():
    network = seeded(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    network.kept = torch.ones(2, requires_grad=True) * 2  # in the midst of a gradient
    with pytest.raises(NotCertifiable, match="can't be copied"):
        graph_of(network, images(2, 1, 2, 2))


def test_a_trace_that_answers_otherwise_is_refused():
    """What depends on Python's own state is a constant in the trace."""

    calls = []

    def counted(x):
        calls.append(1)
        return x.flatten(1) + len(calls)

    with pytest.raises(NotCertifiable, match="answers otherwise"):
        graph_of(Calls(counted), images(2, 1, 2, 2))
