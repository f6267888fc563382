"""Settings of layers that no weight shows: found where batch-norms remember another one."""

import dataclasses

import pytest
import torch
from torch import nn

from robustbench_coded.data.digits import load_digits
from robustbench_coded.models.alterations import alterations
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.recognition import recognise_network

pytestmark = pytest.mark.long


class Own(nn.Module):
    """A network of the user's own code."""

    def __init__(self, padding_mode, count_include_pad):
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, padding_mode=padding_mode)
        self.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=count_include_pad)
        self.bn1 = nn.BatchNorm2d(16, momentum=None)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, padding_mode=padding_mode)
        self.bn2 = nn.BatchNorm2d(32, momentum=None)
        self.linear = nn.Linear(32, 10)

    def forward(self, x):
        x = self.bn1(self.pool(self.conv1(x))).relu()
        return self.linear(self.bn2(self.conv2(x)).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def images():
    return load_digits("test").batch(range(320))[0]


@pytest.mark.parametrize(
    ("trained", "given", "said"),
    [
        (("zeros", True), ("reflect", True), "padding_mode='zeros' in its convolutions"),
        (("circular", True), ("zeros", True), "padding_mode='circular' in its convolutions"),
        (("zeros", True), ("zeros", False), "count_include_pad=True in its pooling"),
        (("replicate", False), ("replicate", False), None),
    ],
)
def test_a_setting_that_is_another_one_than_in_training_is_named(tmp_path, images, trained, given, said):
    network = Own(*trained)
    network.train()(images)
    wrong = Own(*given)
    wrong.load_state_dict(network.state_dict())
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).state_dict(), tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt", normalize="none")
    checkpoint = dataclasses.replace(checkpoint, arch="own:network", network=wrong.eval())
    found = recognise_network(checkpoint, images, None).contradictions
    if said is None:
        assert found == ()
    else:
        assert f"with {said} activations would differ" in found[-1]
        assert "that setting differs from training" in found[-1]


def test_the_network_itself_is_left_as_it_is_and_shares_its_weights():
    network = Own("zeros", True).eval()
    found = dict(alterations(network))
    assert len(found) == 4 and network.conv1.padding_mode == "zeros" and network.pool.count_include_pad
    assert all(other.conv1.weight is network.conv1.weight for other in found.values())
    x = torch.rand(2, 1, 8, 8)
    assert all(not torch.allclose(other(x), network(x)) for other in found.values())
