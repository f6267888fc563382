"""Networks without batch-norm: random ones, whose own answers are the labels."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_coded.data.digits import load_digits
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.recognition import recognise_network


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
    assert found.choice.name == "half" and found.contradictions == ()
    assert form in found.arch and right == 1


def test_a_combination_of_numbers_without_a_name_is_found(tmp_path, images):
    found, right = recognised(tmp_path, images, nn.ReLU(), lambda x: 255 * x - 127.5)
    assert found.choice.mean == (0.5,) and found.choice.std == pytest.approx((1 / 255,))
    assert right > 0.99


def test_white_paper_instead_of_black_is_refused(tmp_path, images):
    found, right = recognised(tmp_path, images, nn.ReLU(), lambda x: 1 - x)
    assert right < 0.9
    assert "inverted (1 - x) 100.0%: its training laid out images otherwise" in found.contradictions[-1]
