"""Definitions of RobustBench that are our own architectures, without its package."""

import sys

import pytest
import torch

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup.checkpoints import with_normalisation
from robustbench_coded.extras.libraries.robustbench import _table, own_definitions
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import standardised
from robustbench_coded.models.registry import find
from robustbench_coded.paper.training.fresh import build

ENTRIES = [
    (f"{dataset}/{threat}/{name}", arch)
    for dataset, threats in _table().items()
    for threat, members in threats.items()
    for name, (arch, _) in members.items()
]


@pytest.fixture(autouse=True)
def no_packages(monkeypatch):
    for absent in ("timm", "robustbench"):
        monkeypatch.setitem(sys.modules, absent, None)


def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_every_entry_names_an_architecture_and_a_normalisation():
    assert len(ENTRIES) > 150
    for path, arch in ENTRIES:
        (named,) = own_definitions(path, None)
        assert (named.path, len(named.normalisation.mean)) == (path, 3)
        if not arch.startswith("timm:"):
            find(arch)


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("Wong2020Fast", 10, {"preact-resnet18-raw"}),
        ("Wong2020Fast", 1000, {"torchvision-resnet50"}),
        ("Rice2020Overfitting", 10, {"wrn-34-20", "preact-resnet18-bn"}),
        ("cifar10/L2/Rice2020Overfitting", 10, {"preact-resnet18-bn"}),
        ("Standard", 10, {"wrn-28-10"}),  # alike under three threat models
        ("Standard", 7, set()),
        ("cifar10/Linf/Nobody", 10, set()),
        ("Linf/Standard", 10, set()),
    ],
)
def test_names_stand_for_the_definitions_of_their_data(name, classes, expected):
    assert {named.arch for named in own_definitions(name, classes)} == expected


def saved(path, arch, classes=10, prefix=""):
    network = build(arch, classes, generator=torch.Generator().manual_seed(3)).eval()
    torch.save({"state_dict": {prefix + name: t for name, t in network.state_dict().items()}}, path)
    return network


def test_a_name_settles_what_the_weights_do_not_say(tmp_path):
    arch = "preact-resnet18-raw"
    network = saved(tmp_path / "a.pt", arch, prefix="module.")
    checkpoint = load_checkpoint(tmp_path / "a.pt", arch="robustbench:Wong2020Fast")
    assert (checkpoint.arch, checkpoint.normalisation_source) == (arch, "stored")
    model = with_normalisation(checkpoint, images(), torch.zeros(2).long())
    mean, std = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    assert torch.equal(model(images()), network((images() - mean) / std))
    plain = load_checkpoint(tmp_path / "a.pt")
    assert not torch.allclose(checkpoint.network(images()), plain.network(images()))
    assert any("robustbench:cifar10/Linf/Wong2020Fast is" in note for note in checkpoint.notes)


def test_a_normalisation_of_each_image_comes_with_the_name(tmp_path):
    network = saved(tmp_path / "a.pt", "wrn-28-4")
    checkpoint = load_checkpoint(tmp_path / "a.pt", arch="robustbench:Ding2020MMA")
    assert torch.equal(checkpoint.network(images()), network(standardised(images())))


def test_the_same_name_under_another_threat_model_may_be_another_network(tmp_path):
    saved(tmp_path / "a.pt", "preact-resnet18-bn")
    found = load_checkpoint(tmp_path / "a.pt", arch="robustbench:Rice2020Overfitting")
    assert found.arch == "preact-resnet18-bn"
    with pytest.raises(InputError, match="its weights are not those of wrn-34-20, where"):
        load_checkpoint(tmp_path / "a.pt", arch="robustbench:cifar10/Linf/Rice2020Overfitting")


def test_a_name_of_timms_says_what_is_missing(tmp_path):
    torch.save(
        {"head.fc.weight": torch.zeros(1000, 768), "head.fc.bias": torch.zeros(1000)}, tmp_path / "a.pt"
    )
    with pytest.raises(InputError, match=r"timm is not installed .*pip install -e '\.\[timm\]'"):
        load_checkpoint(tmp_path / "a.pt", arch="timm:convnext_tiny")
