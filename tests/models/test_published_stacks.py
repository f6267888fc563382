"""Published definitions of plain stacks: in torch as their authors wrote them, and recognised as such."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robustbench_coded.errors import InputError
from robustbench_coded.models.architectures.sequential_names import published_stacks
from robustbench_coded.models.candidates import published_definition
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.recognition import recognise_network


class Named(nn.Module):
    """Layers under names of their own, and what the published forward pass does with them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.layers_forward = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.layers_forward(self, x)


def conv(*sizes, **options):
    return nn.Conv2d(*sizes, **options), nn.ReLU()


def small(channels, flat):
    layers = (*conv(channels, 16, 4, stride=2, padding=1), *conv(16, 32, 4, stride=2, padding=1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 100), nn.ReLU(), nn.Linear(100, 10))


def larger(channels, flat):
    convolutions = (
        *conv(channels, 32, 3, padding=1),
        *conv(32, 32, 4, stride=2, padding=1),
        *conv(32, 64, 3, padding=1),
        *conv(64, 64, 4, stride=2, padding=1),
    )
    linear = nn.Linear(flat, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    return nn.Sequential(*convolutions, nn.Flatten(), *linear)


def example(own, x):
    x = F.max_pool2d(own.conv2(own.conv1(x).relu()).relu(), 2).flatten(1)
    return own.fc2(own.fc1(x).relu())


def pooled_twice(own, x):
    x = F.max_pool2d(own.conv2(F.max_pool2d(own.conv1(x), 2).relu()), 2).relu().flatten(1)
    for name in [name for name, _ in own.named_children() if not name.startswith("conv")]:
        x = getattr(own, name)(x if name.endswith("1") else x.relu())
    return x


def perceptron(own, x):
    return own.linear3(own.linear2(own.linear1(x.flatten(1)).relu()).relu())


def trades(own, x):
    e, c = own.feature_extractor, own.classifier
    x = F.max_pool2d(e.conv2(e.conv1(x).relu()).relu(), 2)
    x = F.max_pool2d(e.conv4(e.conv3(x).relu()).relu(), 2)
    return c.fc3(c.fc2(c.fc1(x.flatten(1)).relu()).relu())


C, L = nn.Conv2d, nn.Linear
PUBLISHED = {
    "small, MNIST": (1, 28, small(1, 32 * 49)),
    "small, CIFAR": (3, 32, small(3, 32 * 64)),
    "larger, MNIST": (1, 28, larger(1, 64 * 49)),
    "larger, CIFAR": (3, 32, larger(3, 64 * 64)),
    "example": (
        *(1, 28),
        Named(example, conv1=C(1, 32, 3), conv2=C(32, 64, 3), fc1=L(9216, 128), fc2=L(128, 10)),
    ),
    "example of 2018": (
        *(1, 28),
        Named(pooled_twice, conv1=C(1, 20, 5), conv2=C(20, 50, 5), fc1=L(800, 500), fc2=L(500, 10)),
    ),
    "example of 2017": (
        *(1, 28),
        Named(pooled_twice, conv1=C(1, 10, 5), conv2=C(10, 20, 5), fc1=L(320, 50), fc2=L(50, 10)),
    ),
    "tutorial": (
        *(3, 32),
        Named(
            pooled_twice,
            conv1=C(3, 6, 5),
            conv2=C(6, 16, 5),
            fc1=L(400, 120),
            fc2=L(120, 84),
            fc3=L(84, 10),
        ),
    ),
    "LeNet5 of advertorch": (
        *(1, 28),
        Named(
            pooled_twice,
            conv1=C(1, 32, 3, padding=1),
            conv2=C(32, 64, 3, padding=1),
            linear1=L(3136, 200),
            linear2=L(200, 10),
        ),
    ),
    "MLP of advertorch": (
        *(1, 28),
        Named(perceptron, linear1=L(784, 300), linear2=L(300, 100), linear3=L(100, 10)),
    ),
    "TRADES": (
        *(1, 28),
        Named(
            trades,
            feature_extractor=Named(
                None, conv1=C(1, 32, 3), conv2=C(32, 32, 3), conv3=C(32, 64, 3), conv4=C(64, 64, 3)
            ),
            classifier=Named(None, fc1=L(1024, 200), fc2=L(200, 200), fc3=L(200, 10)),
        ),
    ),
}


def test_every_entry_is_checked_here():
    assert len(published_stacks()) == len(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_definition_is_read_as_its_authors_wrote_it(tmp_path, name):
    channels, size, network = PUBLISHED[name]
    torch.save({f"module.{key}": tensor for key, tensor in network.state_dict().items()}, tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt", normalize="none")
    x = torch.rand(64, channels, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(checkpoint.network(x), network(x), rtol=1e-4, atol=1e-5)
    found = recognise_network(checkpoint, x, None)
    bare = recognise_network(load_checkpoint(tmp_path / "a.pt"), x, None)
    if isinstance(network, nn.Sequential):  # its numbers show where the activations stand
        assert published_definition(checkpoint)
        assert (found.refusal, found.by[1]) == ("", "given")
        assert bare.refusal.startswith("neither its weights nor its file say its normalisation")
    else:  # what its forward does is nowhere in the file
        assert published_definition(checkpoint) is None
        assert found.question.choices[0].arch == checkpoint.arch
    stated = load_checkpoint(tmp_path / "a.pt", arch=checkpoint.arch, normalize="none")
    assert recognise_network(stated, x, None).refusal == ""


def test_layers_under_other_names_are_not_the_published_definition(tmp_path):
    network = PUBLISHED["example"][2]
    renamed = {name.replace("fc", "dense"): tensor for name, tensor in network.state_dict().items()}
    torch.save(renamed, tmp_path / "a.pt")
    with pytest.raises(InputError, match="no known architecture has these weights"):
        load_checkpoint(tmp_path / "a.pt", normalize="none")


def test_a_published_stack_whose_pickle_names_another_activation_is_asked_about(tmp_path):
    layers = [nn.ELU() if isinstance(layer, nn.ReLU) else layer for layer in small(1, 32 * 49)]
    torch.save(nn.Sequential(*layers), tmp_path / "a.pt")
    found = recognise_network(
        load_checkpoint(tmp_path / "a.pt", normalize="none"), torch.rand(64, 1, 28, 28), None
    )
    assert found.question.choices[0].arch == "sequential-28-c16k4-elu-c32k4-elu-f1568-l100-elu-l"


@pytest.mark.parametrize(("arch", "known"), [("vit-16-192-12-3", True), ("vit-4-192-6-3", False)])
def test_the_heads_of_timms_sizes_are_known(arch, known):
    assert (published_definition(SimpleNamespace(arch=arch)) is not None) == known
