"""Code that is named by its file."""

import copy
import pickle
import sys

import pytest
import torch
from torch import nn
from torchvision.models import squeezenet1_1

from robustbench_coded.data.registry import load_data
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.models.external_architectures import import_function, shown_name
from robustbench_coded.models.loading import load_checkpoint

CODE = "import beside\n\n\ndef build(model):\n    return beside.VALUE\n"


@pytest.fixture
def file(tmp_path):
    """A file whose name no module may have, with another one beside it; not in the current folder."""
    folder = tmp_path / "some where"
    folder.mkdir()
    (folder / "my-own.py").write_text(CODE)
    (folder / "beside.py").write_text("VALUE = 7\n")
    yield folder / "my-own.py"
    sys.modules.pop("beside", None)


def test_it_is_run_once_and_finds_what_lies_beside_it(file):
    before = list(sys.path)
    build = import_function(f"{file}:build", "--defence")
    assert build(None) == 7 and build is import_function(f"{file}:build", "--defence")
    assert sys.path == before


def test_it_takes_no_other_modules_place(tmp_path):
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "json.py").write_text(f"def build(model):\n    return {value}\n")
    found = [import_function(f"{tmp_path}/{folder}/json.py:build", "--defence")(None) for folder in "ab"]
    assert found == [1, 2] and hasattr(sys.modules["json"], "dumps")


def test_without_a_function_it_is_build():
    assert parse_defence("some/where/mine.py").target == "some/where/mine.py:build"
    assert parse_defence("mine.py:Mine").target == "mine.py:Mine"
    assert shown_name("some/where/mine.py:Mine") == "mine.Mine" == shown_name("package.mine:Mine")


@pytest.mark.parametrize(
    ("code", "name", "said"),
    [
        (None, "build", "there is no file"),
        ("def other(): ...", "build", "has no function build"),
        ("open('no.npy')", "build", "mine.py raised FileNotFoundError: "),
        ("", "1x", "file.py:function"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, code, name, said):
    if code is not None:
        (tmp_path / "mine.py").write_text(code)
    with pytest.raises(InputError) as refusal:
        import_function(f"{tmp_path}/mine.py:{name}", "--defence")
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


ENDS_IN_POOLING = """
import torch
from torch import nn
from torchvision.models import squeezenet1_1

def build():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, {classes}, 3),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    )
"""


def test_the_number_of_classes_is_what_a_network_answers(tmp_path):
    """No linear layer shows it: all weights are those of 3 x 3 convolutions."""
    for classes in (10, 1):
        source = tmp_path / f"net{classes}.py"
        source.write_text(ENDS_IN_POOLING.format(classes=classes))
        network = import_function(f"{source}:build", "--arch")()
        torch.save(network.state_dict(), tmp_path / "model.pt")
        if classes == 10:
            found = load_checkpoint(tmp_path / "model.pt", arch=f"{source}:build")
            assert (found.classes, found.channels) == (10, 1)
        else:
            with pytest.raises(InputError, match="it answers one number for each image; two logits"):
                load_checkpoint(tmp_path / "model.pt", arch=f"{source}:build")


AS_TRANSFORMERS = """
from types import SimpleNamespace

import torch
from torch import nn
from torchvision.models import squeezenet1_1

class Net(torch.nn.Linear):
    def forward(self, pixel_values):
        pooled = super().forward(pixel_values.mean((2, 3)))
        return SimpleNamespace(loss=None, logits=pooled)

def build():
    return Net(3, 4)
"""


def test_the_logits_are_taken_from_what_a_network_returns(tmp_path):
    (tmp_path / "net.py").write_text(AS_TRANSFORMERS)
    plain = torch.nn.Linear(3, 4)
    torch.save(plain.state_dict(), tmp_path / "model.pt")
    network = load_checkpoint(tmp_path / "model.pt", arch=f"{tmp_path}/net.py:build").network
    x = torch.rand(2, 3, 8, 8)
    for answering in (network, pickle.loads(pickle.dumps(copy.deepcopy(network)))):  # as workers get it
        torch.testing.assert_close(answering(x), plain(x.mean((2, 3))))


def test_a_function_that_hands_options_on_is_told_the_number_of_classes(tmp_path):
    model = squeezenet1_1(num_classes=7)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert load_checkpoint(tmp_path / "model.pt", arch="torchvision.models:squeezenet1_1").classes == 7
    (tmp_path / "own.py").write_text(
        "from torchvision.models import squeezenet1_1\n\n"
        "def net(classes):\n    return squeezenet1_1(num_classes=classes)\n\n"
        "def build(**own):\n    return net(classes=7, **own)\n"
    )
    assert load_checkpoint(tmp_path / "model.pt", arch=f"{tmp_path}/own.py:build").classes == 7


def test_vision_transformers_as_their_libraries_define_them(tmp_path):
    x = torch.rand(2, 3, 224, 224)
    vision_transformer = pytest.importorskip("timm.models.vision_transformer")
    model = vision_transformer.vit_tiny_patch16_224(num_classes=4).eval()
    torch.save(model.state_dict(), tmp_path / "timm.pt")
    arch = "timm.models.vision_transformer:vit_tiny_patch16_224"
    found = load_checkpoint(tmp_path / "timm.pt", arch=arch)
    assert found.classes == 4
    assert torch.equal(found.network(x), model(x))

    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 5}
    config = transformers.ViTConfig(**sizes)
    (tmp_path / "vit.py").write_text(
        "from transformers import ViTConfig, ViTForImageClassification\n\n"
        f"def vit():\n    return ViTForImageClassification(ViTConfig(**{sizes}))\n"
    )
    model = transformers.ViTForImageClassification(config).eval()
    torch.save(model.state_dict(), tmp_path / "vit.pt")
    config.save_pretrained(tmp_path)  # what hf: reads
    for arch in (f"{tmp_path}/vit.py:vit", "hf:"):
        found = load_checkpoint(tmp_path / "vit.pt", arch=arch)
        assert found.classes == 5
        assert torch.equal(found.network(x), model(x).logits)


def test_a_definition_of_grey_images_is_taken_however_it_flattens_them(tmp_path):
    """As MNIST's are: an MLP has no convolution that tells, and ``view`` needs pixels in order."""
    (tmp_path / "grey.py").write_text(
        "from torch import nn\n\n\n"
        "class Flat(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.view(len(x), -1)\n\n\n"
        "def mlp():\n    return nn.Sequential(Flat(), nn.Linear(64, 10))\n\n\n"
        "def convolution():\n    return nn.Sequential(nn.Conv2d(1, 4, 3), Flat(), nn.Linear(144, 10))\n"
    )
    images, _ = load_data("digits").batch([0, 1, 2])
    for name, shape in (("mlp", {}), ("convolution", {"0.weight": (4, 1, 3, 3), "0.bias": (4,)})):
        last = 144 if shape else 64
        number = 2 if shape else 1
        shape = shape | {f"{number}.weight": (10, last), f"{number}.bias": (10,)}
        torch.save({key: torch.randn(sides) for key, sides in shape.items()}, tmp_path / f"{name}.pt")
        loaded = load_checkpoint(tmp_path / f"{name}.pt", arch=f"{tmp_path}/grey.py:{name}")
        assert (loaded.channels, loaded.classes) == (1, 10)
        assert loaded.network(images).shape == (3, 10)


def test_a_network_of_flat_vectors_is_told_how_it_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Linear(192, 5), nn.Tanh(), nn.Linear(5, 7))
    (tmp_path / "flat.py").write_text(
        "from torch import nn\ndef build():\n"
        "    return nn.Sequential(nn.Linear(192, 5), nn.Tanh(), nn.Linear(5, 7))\n"
    )
    torch.save(network.state_dict(), tmp_path / "flat.pt")
    with pytest.raises(InputError, match=r"vectors \[n, F\]: let it begin with x = x.flatten\(1\)$"):
        load_checkpoint("flat.pt", arch="flat.py:build", image_shape=(3, 8, 8))
