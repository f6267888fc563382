"""Layers under their authors' names that are no stack; those that are one are in test_published_stacks.py."""

import pytest
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint


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
