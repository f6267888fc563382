"""Layers under their authors' names that are no stack; those that are one are in test_published_stacks.py."""

import pytest
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.training.fresh import build


@pytest.mark.parametrize(
    "layers",
    [
        # What stands between convolutions is not guessed.
        {"conv1": nn.Conv2d(3, 6, 5), "conv2": nn.Conv2d(6, 16, 5), "fc": nn.Linear(400, 10)},
        {"fc1": nn.Linear(784, 30), "fc2": nn.Linear(31, 10)},
        {"fc1": nn.Linear(784, 30), "bn1": nn.BatchNorm1d(30), "fc2": nn.Linear(30, 10)},
        {"layer1": nn.ModuleList([nn.ModuleDict({"conv1": nn.Conv2d(3, 6, 5)})]), "fc": nn.Linear(6, 10)},
        {"fc": nn.Linear(784, 6), "conv": nn.Conv2d(6, 10, 1), "last": nn.Linear(10, 10)},
    ],
)
def test_layers_that_do_not_follow_each_other_are_no_stack(tmp_path, layers):
    torch.save(nn.ModuleDict(layers).state_dict(), tmp_path / "a.pt")
    with pytest.raises(InputError, match="no known architecture has these weights"):
        load_checkpoint(tmp_path / "a.pt")


def test_layers_in_a_module_list_are_not_taken_for_a_linear_map(tmp_path):
    """Their numbers follow each other, and the owner calls an activation between them."""
    layers = nn.ModuleList([nn.Linear(64, 32), nn.Linear(32, 16), nn.Linear(16, 10)])
    torch.save(nn.ModuleDict({"linears": layers}).state_dict(), tmp_path / "list.pt")
    assert load_checkpoint(tmp_path / "list.pt").arch == "sequential-8-f64-l32-a-l16-a-l"


@pytest.mark.parametrize(
    ("stated", "answers"),
    [
        ("sequential-32-c6k5-b-a-m-c16k5-a-m-f400-l9-a-l", True),
        ("sequential-32-c6k5-b-a-m-c16k5-a-f1600-l9-a-l", False),
    ],
)
def test_named_layers_are_the_stack_that_the_user_states(tmp_path, stated, answers):
    layers = {"conv1": nn.Conv2d(3, 6, 5), "bn1": nn.BatchNorm2d(6), "conv2": nn.Conv2d(6, 16, 5)}
    network = nn.ModuleDict({**layers, "fc1": nn.Linear(400, 9), "out": nn.Linear(9, 10)}).eval()
    torch.save(network.state_dict(), tmp_path / "a.pt")
    if not answers:
        with pytest.raises(InputError, match="its weights are not those of sequential-32"):
            load_checkpoint(tmp_path / "a.pt", arch=stated, normalize="none")
        return
    x = torch.rand(2, 3, 32, 32)
    loaded = load_checkpoint(tmp_path / "a.pt", arch=stated, normalize="none")
    pool = nn.MaxPool2d(2)
    features = pool(network["conv2"](pool(network["bn1"](network["conv1"](x)).relu())).relu()).flatten(1)
    torch.testing.assert_close(loaded.network(x), network["out"](network["fc1"](features).relu()))


RENAMED = {"conv1": "conv", "bn1": "bn", "linear": "top"}


def renamed(weights):
    """Under the names of another definition of the same network, in the same order."""
    return {".".join([RENAMED.get((p := n.split("."))[0], p[0]), *p[1:]]): t for n, t in weights.items()}


def test_modules_of_a_stated_architecture_are_known_by_shapes_and_order(tmp_path):
    network = build("resnet20", 10, 3).eval()
    torch.save({f"module.{n}": t for n, t in renamed(network.state_dict()).items()}, tmp_path / "a.pt")
    found = load_checkpoint(tmp_path / "a.pt", arch="resnet20")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.network(x), network(x))
    said = "conv is read as conv1, bn is read as bn1, top is read as linear (shapes and order)"
    assert any(said in note for note in found.notes)
    with pytest.raises(InputError, match="no known architecture has these weights"):
        load_checkpoint(tmp_path / "a.pt")  # not stated


def test_sorted_names_are_known_by_shapes_unless_modules_have_the_same(tmp_path):
    network = build("resnet20", 10, 3).eval()
    weights = dict(sorted(renamed(network.state_dict()).items()))  # as safetensors stores them
    torch.save(weights, tmp_path / "a.pt")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_checkpoint(tmp_path / "a.pt", arch="resnet20").network(x), network(x))
    torch.save({n.replace("layer1.0.bn1", "layer1.0.norm"): t for n, t in weights.items()}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="its weights are not those of resnet20"):
        load_checkpoint(tmp_path / "a.pt", arch="resnet20")


@pytest.mark.parametrize(
    "changed",
    [
        lambda w: {n: t for n, t in w.items() if n != "bn.bias"},
        lambda w: {**w, "conv.weight": torch.zeros(16, 3, 5, 5)},
        lambda w: {
            ("other" if n == "bn.bias" else "bn") + n[2:] if n[:2] == "bn" else n: t for n, t in w.items()
        },
    ],
    ids=["missing", "shape", "two modules for one"],
)
def test_other_shapes_are_not_taken_for_renamed_ones(tmp_path, changed):
    torch.save(changed(renamed(build("resnet20", 10, 3).state_dict())), tmp_path / "a.pt")
    with pytest.raises(InputError, match="its weights are not those of resnet20"):
        load_checkpoint(tmp_path / "a.pt", arch="resnet20")
