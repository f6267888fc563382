"""A network of the user's own (``--arch file.py:build``): which images it answers, or why none."""

import pytest
import torch
from torch import nn

from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import multiplications
from robustbench_coded.models.recognition import recognise_network

NETWORKS = '''
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x):
        return self.last(torch.relu(self.first(x.flatten(1))))


class Scaled(Net):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.scale * super().forward(x)


class Pair(Net):
    def forward(self, x):
        return super().forward(x), x.flatten(1)


class Named(Net):
    def forward(self, x):
        return {"class scores": super().forward(x), "pixels": x.flatten(1)}


class Classes(Net):
    def forward(self, x):
        return super().forward(x).argmax(1)


class ChannelsLast(Net):
    def forward(self, x):
        assert x.shape[3] == 1, "grey"
        return super().forward(x)


class Binarised(Net):
    def forward(self, x):
        return super().forward(x[:, 0].sign())


class Rows(nn.Module):
    """Reads an image row by row."""

    def __init__(self):
        super().__init__()
        self.rows, self.last = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, x):
        return self.last(self.rows(x.squeeze(1))[0][:, -1])


class Windows(Net):
    """Fits itself to the smallest images that it is asked about."""

    side = 28

    def forward(self, x):
        self.side = min(self.side, x.shape[3])
        return super().forward(x[..., :8, :8]) * self.side


class Shifted(Net):
    """Has indices that it computes from its shape, as the windows of Swin."""

    def __init__(self):
        super().__init__()
        self.register_buffer("relative_position_index", torch.arange(64).flip(0))

    def forward(self, x):
        return super().forward(x.flatten(1)[:, self.relative_position_index].view_as(x))


class Mapped(Net):
    """Maps a file's names when it loads them, as the classes of transformers do from version 5 on."""

    config = {"size": 1}

    @classmethod
    def from_pretrained(cls, place, config, state_dict, output_loading_info):
        assert place is None and config == cls.config
        network = cls()
        named = {name.removeprefix("published."): tensor for name, tensor in state_dict.items()}
        missing, unexpected = network.load_state_dict(named, strict=False)
        return network, {"missing_keys": missing, "unexpected_keys": unexpected, "mismatched_keys": []}


class Beside(Net):
    """Has another network in a list, where neither weights nor modes of this one reach."""

    def __init__(self):
        super().__init__()
        self.others = [nn.Dropout(0.9)]

    def forward(self, x):
        return super().forward(self.others[0](x))


class Edges(nn.Module):
    """A Kolmogorov-Arnold layer: a sum of Gaussian bumps on every edge."""

    def __init__(self):
        super().__init__()
        self.heights = nn.Parameter(torch.rand(64, 4, 10))

    def forward(self, x):
        bumps = torch.exp(-8 * (x.flatten(1)[..., None] - torch.linspace(0, 1, 4)) ** 2)
        return torch.einsum("nik,ikc->nc", bumps, self.heights)


class Spiking(nn.Module):
    """Leaky neurons over four steps, whose weights are bare parameters."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(64, 10) - 0.5)

    def forward(self, x):
        potential = spikes = torch.zeros(len(x), 10)
        for _ in range(4):
            potential = 0.9 * potential + x.flatten(1) @ self.weight
            spikes = spikes + (potential > 1)
            potential = potential * (potential <= 1)
        return spikes
'''


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """A checkpoint of one of these classes, for 8x8 grey images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(NETWORKS)
    scope = {}
    exec(NETWORKS, scope)

    def load(name, weights=None, image_shape=(1, 8, 8), **options):
        torch.save(scope[name]().state_dict() if weights is None else weights, tmp_path / "own.pt")
        return load_checkpoint("own.pt", arch=f"own.py:{name}", image_shape=image_shape, **options)

    return load


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "Pair",
            r"it returns a tuple \(0: \[2, 10\], 1: \[2, 64\]\), .* in its forward, return answer\[0\]$",
        ),
        ("Named", r"it returns a dict \('class scores': \[2, 10\], .*return answer\['class scores'\]$"),
        ("Classes", r"expected logits \[2, classes\], got \[2\]; where these are classes, give what"),
        ("ChannelsLast", r"AssertionError: grey \(own.py, line \d+\); it answers images \[n, H, W, C\]"),
    ],
)
def test_why_a_network_does_not_answer_is_said_whatever_else_is_stated(loaded, name, said):
    with pytest.raises(InputError, match=rf"own.pt: --arch own.py:{name}: .*{said}"):
        loaded(name, normalize="imagenet")


@pytest.mark.parametrize("name", ["Binarised", "Rows"])
def test_images_of_the_data_say_the_channels(loaded, name):
    checkpoint = loaded(name)
    assert (checkpoint.channels, checkpoint.classes) == (1, 10)
    assert checkpoint.network(torch.rand(3, 1, 8, 8)).shape == (3, 10)


def test_data_of_another_size_are_refused_with_the_size_that_is_answered(loaded):
    with pytest.raises(
        InputError, match=r"fails on images \[2, 1, 28, 28\]: .*it answers images \[1, 8, 8\]"
    ):
        loaded("Binarised", image_shape=(1, 28, 28))


@pytest.mark.parametrize("name", ["Edges", "Spiking", "Rows"])
def test_networks_without_convolutions_are_recognised(loaded, name):
    checkpoint = loaded(name, normalize="none")
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(64, 1, 8, 8, generator=generator), torch.randint(10, (64,), generator=generator)
    found = recognise_network(checkpoint, x, checkpoint.network(x).argmax(1))
    assert found.refusal == "" and found.labelled.accuracy == 1
    assert "as by chance" not in found.sentence and recognise_network(checkpoint, x, y).refusal


def test_asking_leaves_the_network_as_it_was(loaded):
    assert loaded("Windows", image_shape=None).network.side == 28


def test_names_are_mapped_as_the_class_maps_them_when_it_loads(loaded, tmp_path):
    loaded("Mapped")
    stored = torch.load(tmp_path / "own.pt")
    mixed = {f"published.{name}" if "last" in name else name: tensor for name, tensor in stored.items()}
    assert torch.equal(loaded("Mapped", mixed).network.last.weight, stored["last.weight"])
    mixed.pop("first.bias")  # which the class would draw at random
    with pytest.raises(InputError, match=r"its weights are not those of --arch own\.py:Mapped"):
        loaded("Mapped", mixed)


def test_computed_indices_may_be_absent_from_a_file_and_others_may_not(loaded, tmp_path):
    whole = loaded("Shifted")
    stored = torch.load(tmp_path / "own.pt")
    x = torch.rand(3, 1, 8, 8)
    without = loaded("Shifted", {k: v for k, v in stored.items() if "index" not in k})
    assert torch.equal(without.network(x), whole.network(x))
    stored["order"] = stored.pop("relative_position_index")
    with pytest.raises(InputError, match=r"its weights are not those of --arch own\.py:Shifted"):
        loaded("Shifted", stored)


def test_a_single_number_may_have_a_dimension_in_the_file(loaded, tmp_path):
    whole = loaded("Scaled")
    stored = torch.load(tmp_path / "own.pt")
    x = torch.rand(3, 1, 8, 8)
    scaled = loaded("Scaled", {**stored, "scale": torch.tensor([3.0])})
    torch.testing.assert_close(scaled.network(x), 3 * whole.network(x))
    with pytest.raises(InputError, match=r"scale is \[2\] instead of \[\]"):
        loaded("Scaled", {**stored, "scale": torch.tensor([3.0, 3.0])})


def test_networks_beside_its_parts_are_in_evaluation_mode(loaded):
    network = loaded("Beside").network
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(network(x), network(x)) and not network.others[0].training


def test_other_layers_multiply_by_each_weight_once():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(64, 10))

        def forward(self, x):
            return x.flatten(1) @ self.weight

    assert multiplications(Product(), torch.rand(1, 1, 8, 8)) == 640
    assert multiplications(nn.Flatten(), torch.rand(1, 1, 8, 8)) == 64
