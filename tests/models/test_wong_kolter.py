"""Wong and Kolter's networks: in torch as their authors wrote them, and recognised as such."""

from pathlib import Path

import pytest
import torch
from torch import nn

from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.recognition import recognise_network
from tests.models.conftest import prefixed

SHARED = Path(__file__).parents[3] / "shared"
MNIST = SHARED / "data" / "mnist" / "t10k-images-idx3-ubyte.gz"


def conv(*sizes, **options):
    return nn.Conv2d(*sizes, **options), nn.ReLU()


def small(channels, flat):
    layers = (*conv(channels, 16, 4, stride=2, padding=1), *conv(16, 32, 4, stride=2, padding=1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 100), nn.ReLU(), nn.Linear(100, 10))


def large(channels, flat):
    convolutions = (
        *conv(channels, 32, 3, padding=1),
        *conv(32, 32, 4, stride=2, padding=1),
        *conv(32, 64, 3, padding=1),
        *conv(64, 64, 4, stride=2, padding=1),
    )
    linear = nn.Linear(flat, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    return nn.Sequential(*convolutions, nn.Flatten(), *linear)


PUBLISHED = {
    "wong-kolter-small-28": (1, 28, small(1, 32 * 49)),
    "wong-kolter-small-32": (3, 32, small(3, 32 * 64)),
    "wong-kolter-large-28": (1, 28, large(1, 64 * 49)),
    "wong-kolter-large-32": (3, 32, large(3, 64 * 64)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_definition_is_read_as_its_authors_wrote_it(reloaded, name):
    channels, size, network = PUBLISHED[name]
    weights = prefixed("module.", network.state_dict())
    checkpoint = reloaded(weights, normalize="none")
    assert (checkpoint.arch, checkpoint.image_size, checkpoint.classes) == (name, size, 10)
    x = torch.rand(64, channels, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(checkpoint.network(x), network(x), rtol=1e-4, atol=1e-5)
    found = recognise_network(checkpoint, x, None)
    assert (found.refusal, found.by[1]) == ("", "given")
    bare = recognise_network(reloaded(weights), x, None)
    assert bare.refusal.startswith("neither its weights nor its file say its normalisation")


def test_one_whose_pickle_names_another_activation_is_asked_about(reloaded):
    layers = [nn.ELU() if isinstance(layer, nn.ReLU) else layer for layer in small(1, 32 * 49)]
    checkpoint = reloaded(nn.Sequential(*layers), normalize="none")
    found = recognise_network(checkpoint, torch.rand(64, 1, 28, 28), None)
    assert "say its activations (its pickle holds torch.nn.ELU)" in found.refusal


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10)),
        nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
        nn.ModuleDict({"fc1": nn.Linear(784, 30), "fc2": nn.Linear(30, 10)}),
        nn.ModuleDict({"conv1": nn.Conv2d(3, 6, 5), "conv2": nn.Conv2d(6, 16, 5), "fc": nn.Linear(400, 10)}),
    ],
    ids=["stack", "matrix", "names", "convolutions"],
)
def test_another_stack_of_layers_is_refused_with_the_line_that_works(reloaded, network):
    with pytest.raises(InputError, match=r"no known architecture has these weights.*--arch file.py:build$"):
        reloaded(network.state_dict(), normalize="none")


@pytest.mark.skipif(not MNIST.is_file(), reason="the shared MNIST images are not here")
@pytest.mark.parametrize(
    ("file", "accuracy"), [("kw_mnist", 0.9820), ("mnist-pgd-madry", 0.9899), ("mnist-fgsm", 0.9850)]
)
def test_published_mnist_networks_have_their_published_accuracy(file, accuracy):
    checkpoint = load_checkpoint(SHARED / "checkpoints" / f"{file}.pth", normalize="none")
    auto = data_for(checkpoint.metadata, checkpoint.classes, checkpoint.channels, checkpoint.image_size)
    data = load_data(auto, data_dir=SHARED / "data")
    model = PixelModel(checkpoint.network, (0.0,), (1.0,), classes=10, arch=checkpoint.arch)
    x, y = data.batch(range(10_000))
    with torch.no_grad():
        right = (model(x).argmax(1) == y).float().mean()
    assert round(float(right), 4) == accuracy
