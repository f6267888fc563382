"""Networks without batch-norm: random ones, whose own answers are the labels."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.recognition import recognise_network

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def images():
    data = load_digits("test")
    x = data.batch(range(320))[0]
    return F.interpolate(x, size=(28, 28), mode="bilinear").clamp(0, 1)


def recognised(tmp_path, images, activation, seen):
    """What is made of the weights, and the share of images that it answers as the network does."""
    network = nn.Sequential(nn.Conv2d(1, 4, 4, stride=2, padding=1), activation, nn.Flatten())
    network.extend([nn.Linear(4 * 196, 32), activation, nn.Linear(32, 10)])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 20
            parameter.normal_(0, (2 / fan) ** 0.5, generator=generator)
        logits = network(seen(images))
        network[-1].bias.sub_(logits.mean(0))  # no class is far more frequent than another
        labels = network(seen(images)).argmax(1)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), images, labels)
    return found, float((found.model(images).argmax(1) == labels).double().mean())


@pytest.mark.parametrize(("activation", "form"), [(nn.Tanh(), "activation=tanh"), (nn.ReLU(), "")])
def test_an_activation_and_a_normalisation_are_found_together(tmp_path, images, activation, form):
    found, right = recognised(tmp_path, images, activation, lambda x: (x - 0.5) / 0.5)
    assert found.choice.name == "half" and found.doubts == ()
    assert form in found.arch and right == 1


def test_a_combination_of_numbers_without_a_name_is_found(tmp_path, images):
    found, right = recognised(tmp_path, images, nn.ReLU(), lambda x: 255 * x - 127.5)
    assert found.choice.mean == (0.5,) and found.choice.name == "custom"
    assert right > 0.95


def test_what_is_stated_is_refused_where_it_answers_at_chance(tmp_path, images):
    recognised(tmp_path, images, nn.ReLU(), lambda x: x)
    name = load_checkpoint(tmp_path / "a.pt").arch
    stated = load_checkpoint(tmp_path / "a.pt", arch=f"{name}[activation=tanh]", normalize="none")
    found = recognise_network(stated, images, load_checkpoint(tmp_path / "a.pt").network(images).argmax(1))
    assert found.arch == f"{name}[activation=tanh]"
    assert f"labelled images contradict {name}[activation=tanh] without" in found.warnings[0]
    assert f"try --arch '{name}' --normalize none" in found.warnings[0]
    assert "and chance is 10.0%" in found.refusal


def test_parts_that_make_up_for_each_other_are_tried_together(tmp_path, images):
    """Mean pooling behind a tanh, on pixels around 0: any one of these alone is answered no better."""
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(784, 10)
    )
    labels = network((images - 0.5) / 0.5).argmax(1)
    named = {"conv.weight": network[0].weight, "conv.bias": network[0].bias}
    torch.save({**named, "fc.weight": network[4].weight, "fc.bias": network[4].bias}, tmp_path / "a.pt")
    found = recognise_network(load_checkpoint(tmp_path / "a.pt"), images, labels)
    assert found.arch.endswith("[pooling=mean,activation=tanh]") and found.choice.name == "half"
