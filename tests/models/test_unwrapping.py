"""Networks under their authors' names; others of this kind are in test_published_stacks.py."""

import pytest
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint


class Vgg(nn.Module):
    """Numbered features, of which the numbers tell all but the last pooling."""

    def __init__(self, batch_norm):
        super().__init__()
        layers, before = [], 3
        for planes in (8, None, 16, None, 16, 16, None, 32, None, 32, None):
            if planes is None:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(before, planes, 3, padding=1)]
            layers += [nn.BatchNorm2d(planes)] if batch_norm else []
            layers.append(nn.ReLU())
            before = planes
        self.features = nn.Sequential(*layers, nn.AvgPool2d(1, 1))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 10))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_plain_network_under_its_authors_names_is_put_together_as_it_was(tmp_path, batch_norm):
    torch.manual_seed(0)
    network = Vgg(batch_norm).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt", normalize="none")
    assert (checkpoint.channels, checkpoint.image_size, checkpoint.classes) == (3, 32, 10)
    assert any("read as a stack in the order of the file" in note for note in checkpoint.notes)
    x = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(checkpoint.network(x), network(x))
    # By its name alone, as workers build it, and the same network in a stack that pools means.
    again = load_checkpoint(tmp_path / "a.pt", normalize="none", arch=checkpoint.arch)
    assert torch.equal(again.network(x), checkpoint.network(x))
    mean = load_checkpoint(tmp_path / "a.pt", normalize="none", arch=f"{checkpoint.arch}[pooling=mean]")
    assert not torch.allclose(mean.network(x), network(x))


@pytest.mark.parametrize(
    "layers",
    [
        {"conv1": nn.Conv2d(3, 6, 5), "conv2": nn.Conv2d(7, 16, 5), "fc": nn.Linear(400, 10)},
        {"conv1": nn.Conv2d(3, 6, 5), "conv2": nn.Conv2d(6, 16, 5), "fc": nn.Linear(401, 10)},
        {"conv1": nn.Conv2d(3, 6, 5), "conv2": nn.Conv2d(6, 10, 1)},
        {"fc1": nn.Linear(784, 30), "fc2": nn.Linear(31, 10)},
        {
            "conv1": nn.Conv2d(3, 6, 5),
            "bn1": nn.BatchNorm2d(6),
            "conv2": nn.Conv2d(6, 16, 5),
            "fc": nn.Linear(400, 10),
        },
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
