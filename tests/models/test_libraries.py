"""Networks that other libraries define: torchvision itself, and stand-ins for those that may be absent."""

import json
import sys

import pytest
import torch
import torchvision

from robustbench_coded.errors import InputError
from robustbench_coded.models.normalisation import KNOWN
from tests.models.conftest import prefixed, randomised

IMAGENET = KNOWN[3]["imagenet"]


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def squeezenet():
    return randomised(torchvision.models.get_model("squeezenet1_1", weights=None, num_classes=7))


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": prefixed("module.", w), "epoch": 3}])
def test_a_network_of_torchvision_gets_the_weights_of_the_file(reloaded, squeezenet, images, wrap):
    checkpoint = reloaded(wrap(squeezenet.state_dict()), arch="torchvision:squeezenet1_1")
    assert (checkpoint.arch, checkpoint.classes, checkpoint.channels) == ("torchvision:squeezenet1_1", 7, 3)
    assert (checkpoint.normalisation, checkpoint.normalisation_source) == (None, "unknown")
    assert torch.equal(checkpoint.network(images), squeezenet(images))


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("torchvision:squeezenet9", "torchvision has no such network; closest: squeezenet1_"),
        ("torchvision:mobilenet_v2", r"not those of --arch torchvision:mobilenet_v2, where \S+ is missing"),
        ("torchvision:", "torchvision has no such network"),
        ("timm:resnet18", r"timm is not installed \(.*\); pip install -e '\.\[timm\]' in a checkout"),
        ("robustbench:Pang2020Boosting", "not installed here; pip install robustbench"),
        ("robustbench:cifar10/Linf/Carmon2019Unlabeled", "its weights are not those of wrn-28-10, where"),
        ("hf:", r"config.json cannot be read \(No such file or directory\); hf:FOLDER takes"),
    ],
)
def test_what_cannot_be_taken_is_one_line(reloaded, squeezenet, monkeypatch, arch, message):
    for absent in ("timm", "robustbench"):
        monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(InputError, match=message) as error:
        reloaded(squeezenet.state_dict(), arch=arch)
    assert "\n" not in str(error.value)


# A zoo as the package lays it out. Its top level fails, as the real one does without packages of its own.
ZOO = """
import timm, torch
from enum import Enum
from collections import OrderedDict
from torch import nn


class Dataset(Enum):
    cifar_10 = "cifar10"
    cifar_100 = "cifar100"


class Threat(Enum):
    Linf = "Linf"
    L2 = "L2"


class Normalised(nn.Module):
    def __init__(self, scale=2.0, classes=10):
        super().__init__()
        self.register_buffer("mu", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("sigma", torch.full((1, 3, 1, 1), 0.25))
        self.scale = scale
        self.top = nn.Linear(3, classes)

    def forward(self, x):
        return self.scale * self.top(((x - self.mu) / self.sigma).mean((2, 3)))


def cuda():
    raise RuntimeError("no CUDA\\nhere")


model_dicts = OrderedDict([
    (Dataset.cifar_10, {
        Threat.Linf: {
            "One": {"model": Normalised},
            "Two": {"model": lambda: Normalised(2.0)},
            "Registered-A": {"model": None},
            "Pretrained": {"model": lambda: timm.create_model("any", pretrained=True)},
            "Gpu": {"model": cuda},
            "Downloading": {"model": lambda: torch.hub.load_state_dict_from_url("nowhere")},
        },
        Threat.L2: {"One": {"model": lambda: Normalised(3.0)}, "Two": {"model": Normalised}},
    }),
    (Dataset.cifar_100, {Threat.Linf: {"One": {"model": lambda: Normalised(5.0, 100)}}}),
])
"""

TIMM = """
def is_model(name):
    return name in ("registered_a_cifar10_linf", "small")


def list_models():
    return ["small", "smaller"]


def create_model(name, pretrained=False, num_classes=10, in_chans=3):
    assert not pretrained, "weights would be downloaded"
    from torch import nn

    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_chans, num_classes))
    network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": (3, 64, 64)}
    return network
"""


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Packages of those names, that hold what the loading relies on."""
    zoo = tmp_path / "packages" / "robustbench" / "model_zoo"
    zoo.mkdir(parents=True)
    (zoo.parent / "__init__.py").write_text("raise ImportError('a package of its own evaluation')")
    (zoo / "__init__.py").write_text(ZOO)
    (tmp_path / "packages" / "timm.py").write_text(TIMM)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    forget = ("timm", "robustbench", "robustbench.model_zoo")
    for name in forget:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in forget:
        sys.modules.pop(name, None)


def linear(classes=10, layer="top"):
    generator = torch.Generator().manual_seed(0)
    return {
        f"{layer}.weight": torch.randn(classes, 3, generator=generator),
        f"{layer}.bias": torch.randn(classes, generator=generator),
    }


def answers(weights, x, scale, mean=0.5, std=0.25):
    normalised = ((x - mean) / std).mean((2, 3))
    weight, bias = weights.values()
    return scale * (normalised @ weight.T + bias)


@pytest.mark.parametrize(
    ("name", "classes", "scale"),
    [("cifar10/Linf/One", 10, 2), ("cifar10/L2/One", 10, 3), ("One", 100, 5)],
)
@pytest.mark.parametrize("buffers", [{}, {"mu": torch.zeros(1, 3, 1, 1), "sigma": torch.ones(1, 3, 1, 1)}])
def test_a_definition_of_robustbench_keeps_its_normalisation(
    reloaded, packages, images, name, classes, scale, buffers
):
    weights = linear(classes)
    contents = {"state_dict": prefixed("module.", {**weights, **buffers})}
    checkpoint = reloaded(contents, arch=f"robustbench:{name}")
    assert checkpoint.normalisation == KNOWN[3]["none"]
    expected = answers(weights, images, scale, *((0.0, 1.0) if buffers else (0.5, 0.25)))
    torch.testing.assert_close(checkpoint.network(images), expected)
    assert "robustbench" not in sys.modules  # its top level was never imported


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("One", "its zoo has cifar10/Linf/One, cifar10/L2/One; name one of them"),
        ("Onn", "its zoo has no such definition; closest: One"),
        ("Gpu", "cifar10/Linf/Gpu: it raised RuntimeError: no CUDA here"),
        ("Downloading", "its definition downloads weights, which is refused"),
        ("cifar100/Linf/One", r"where top.weight is \[10, 3\] instead of \[100, 3\]"),
    ],
)
def test_definitions_that_do_not_do(reloaded, packages, name, message):
    with pytest.raises(InputError, match=message) as error:
        reloaded(linear(), arch=f"robustbench:{name}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arch", ["robustbench:Registered-A", "robustbench:Pretrained", "timm:small"])
def test_timm_is_never_asked_for_weights(reloaded, packages, images, arch):
    weights = linear(layer="2")
    checkpoint = reloaded(weights, arch=arch)
    torch.testing.assert_close(checkpoint.network(images), answers(weights, images, 1, 0.0, 1.0))


def test_what_timm_states_of_its_own_weights_is_said_and_not_believed(reloaded, packages):
    checkpoint = reloaded(linear(layer="2"), arch="timm:small")
    assert checkpoint.normalisation is None
    assert any("0.5,0.5,0.5/0.5,0.5,0.5" in note for note in checkpoint.notes)


def test_a_configuration_beside_the_weights_names_network_and_normalisation(
    tmp_path, reloaded, packages, images
):
    weights = linear(4, layer="2")
    config = {"architecture": "small", "num_classes": 4}
    config["pretrained_cfg"] = {"mean": IMAGENET.mean, "std": IMAGENET.std}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for arch in ("hf:", f"hf:{tmp_path}", f"hf:{tmp_path / 'config.json'}"):
        checkpoint = reloaded(weights, arch=arch)
        assert (checkpoint.normalisation, checkpoint.normalisation_source) == (IMAGENET, "stored")
        torch.testing.assert_close(checkpoint.network(images), answers(weights, images, 1, 0.0, 1.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "cannot be read"),
        ("{", "cannot be read"),
        ('{"model_type": "vit"}', "transformers defines; it is not installed"),
        ('{"architecture": "nothing"}', "states no num_classes|has no such network"),
        ("{}", "names neither"),
    ],
)
def test_configurations_that_do_not_do(tmp_path, reloaded, packages, monkeypatch, text, message):
    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        reloaded(linear(), arch="hf:")
    assert "\n" not in str(error.value)
