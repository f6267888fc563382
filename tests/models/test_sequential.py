"""Plain stacks of layers, whose names are numbers: what stood between them and strides are inferred."""

from pathlib import Path

import pytest
import torch
from torch import nn

from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.errors import InputError
from robustbench_coded.models.architectures.sequential_names import layout, stack_names
from robustbench_coded.models.build import construct
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.recognition import recognise_network
from robustbench_coded.models.registry import find
from tests.models.conftest import randomised

SHARED = Path(__file__).parents[3] / "shared"


def conv(*arguments, **options):
    return [nn.Conv2d(*arguments, **options), nn.ReLU()]


STACKS = {
    "cifar with pooling and dropout": (
        (3, 32),
        [
            *conv(3, 8, 3, padding=1),
            nn.MaxPool2d(2),
            *conv(8, 16, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(16 * 64, 32),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(32, 10),
        ],
    ),
    "batch-norms, no biases": (
        (3, 32),
        [
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 256, 32, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Linear(32, 10),
        ],
    ),
    "perceptron": ((1, 28), [nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10)]),
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_stack_is_put_together_as_it_was(tmp_path, stack, prefix):
    (channels, size), layers = STACKS[stack]
    network = randomised(nn.Sequential(*layers))
    torch.save({prefix + name: t for name, t in network.state_dict().items()}, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt", normalize="none")
    assert (checkpoint.channels, checkpoint.classes, checkpoint.image_size) == (channels, 10, size)
    x = torch.rand(3, channels, size, size, generator=torch.Generator().manual_seed(1))
    assert torch.equal(checkpoint.network(x), network(x))
    # The name alone is enough to build it again, as workers do.
    again = load_checkpoint(tmp_path / "a.pt", normalize="none", arch=checkpoint.arch)
    assert torch.equal(again.network(x), network(x))


LINEAR = {
    "a classifier": nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
    "its layer alone": nn.Linear(784, 10),
    "a layer with a name": nn.ModuleDict({"fc": nn.Linear(784, 10, bias=False)}),
    "two layers with names": nn.ModuleDict({"fc1": nn.Linear(784, 30), "fc2": nn.Linear(30, 10)}),
    "flattened by its caller": nn.Sequential(nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 10)),
}


@pytest.mark.parametrize("stack", LINEAR)
def test_linear_layers_alone_are_a_stack_whatever_their_names(tmp_path, stack):
    module = LINEAR[stack]
    torch.save(module.state_dict(), tmp_path / "model.pt")
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert (loaded.channels, loaded.classes, loaded.image_size) == (1, 10, 28)
    x = torch.rand(3, 1, 28, 28)
    layers = [one for one in module.modules() if isinstance(one, nn.Linear)]
    expected = x.flatten(1)
    for layer in layers[:-1]:
        expected = layer(expected).relu()
    torch.testing.assert_close(loaded.network(x), layers[-1](expected))


@pytest.mark.parametrize(
    "shapes",
    [
        {"0.weight": (16, 1, 4, 4), "0.bias": (16,)},
        {"0.weight": (16, 1, 4, 4), "2.weight": (10, 999)},
        {"0.weight": (16, 1, 4, 4), "9.weight": (10, 1568)},
        {"0.weight": (16, 2, 4, 4), "3.weight": (10, 1568)},
        {"0.weight": (16, 0, 4, 4), "3.weight": (10, 1568)},
        {"0.weight": (16, 1, 4, 5), "3.weight": (10, 1568)},
        {"0.weight": (10, 77)},
        {"a.weight": (10, 784)},
        {},
        {f"{2 * i}.weight": (8, 8, 3, 3) for i in range(45)},
    ],
)
def test_what_is_no_such_stack_has_no_name(shapes):
    assert stack_names(shapes) == []


@pytest.mark.parametrize(
    "name", ["sequential-28-c16", "sequential-28-a", "sequential-x-l", "sequential-28", "sequential-28-l-l"]
)
def test_names_that_describe_nothing_are_unknown(name):
    with pytest.raises(InputError, match="unknown architecture"):
        find(name)


def test_a_name_that_contradicts_itself_is_refused():
    with pytest.raises(InputError, match="expected 784 values, got sequential-28-f700-l"):
        construct("sequential-28-f700-l", 10, 1)


MNIST = SHARED / "data" / "mnist" / "t10k-images-idx3-ubyte.gz"


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


def saved_with_pooling_in_forward(path, channels):
    """A stack under ``layers.0..8`` whose second pooling stands in its forward, and what it remembers."""
    torch.manual_seed(0)
    size = 28 if channels == 1 else 32
    layers = nn.Sequential(
        *(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten()),
        nn.Linear(16 * (size // 4) ** 2, 10),
    )
    x = torch.rand(512, channels, size // 4, size // 4).repeat_interleave(4, 2).repeat_interleave(4, 3)

    def forward(x):
        return layers[8](nn.functional.max_pool2d(layers[:7](x), 2).flatten(1))

    for module in layers:
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    forward(x)
    layers.eval()
    with torch.no_grad():
        layers[8].bias -= forward(x).mean(0)  # all classes are answered
    torch.save({f"layers.{name}": tensor for name, tensor in layers.state_dict().items()}, path)
    return x, forward


@pytest.mark.parametrize("channels", [1, 3])
def test_where_a_gap_may_hold_a_pooling_both_networks_are_candidates_and_it_is_asked(tmp_path, channels):
    """Batch-norms fit both: no batch-norm stands behind the second pooling."""
    x, forward = saved_with_pooling_in_forward(tmp_path / "a.pt", channels)
    stated = load_checkpoint(tmp_path / "a.pt", normalize="none", image_shape=x.shape[1:])
    assert stated.image_size == x.shape[2]
    y = forward(x).argmax(1)
    found = recognise_network(stated, x, y)
    assert "do not show what follows the last of them" in found.refusal or "fit several" in found.refusal
    assert {one.normalisation.name for one in found.question.choices} == {"none"}
    right = [row for row in found.question.labelled if row.accuracy == 1]
    assert len(right) == 1 and len(found.question.choices) > 1
    chosen = load_checkpoint(tmp_path / "a.pt", arch=right[0].candidate.arch, normalize="none")
    torch.testing.assert_close(chosen.network(x[:8]), forward(x[:8]))


def test_the_usual_strides_are_taken():
    assert layout("sequential-28-c16k4-a-c32k4-a-f1568-l100-a-l") == (0, ((2, 1), (2, 1)))
    assert layout("sequential-28-c16k3-a-f77-l") is None
    with pytest.raises(InputError, match="expected strides that lead to the values"):
        construct("sequential-28-c16k3-a-f77-l", 10, 1)
