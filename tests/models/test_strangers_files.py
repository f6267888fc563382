"""Files and data as strangers have them: what a refusal says last is the line that works."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from robustbench_coded.data.arrays import dataset_in_memory, load_npz
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError, in_python
from robustbench_coded.models.in_memory import answered
from robustbench_coded.models.loading import check_data, load_checkpoint
from robustbench_coded.paper.training.fresh import build

CODE = """
import torch
from torch import nn


class Signals(nn.Sequential):
    pass


def signals():
    return Signals(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14, 2))


def table():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


def one():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Sigmoid())


class Two(nn.Sequential):
    def forward(self, x):
        return torch.nn.functional.pad(super().forward(x).logit(1e-6), (1, 0))


def two():
    return Two(nn.Flatten(), nn.Linear(64, 1), nn.Sigmoid())
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with the definitions in ``own.py``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(CODE)
    return tmp_path


def keras():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "x")
    return data.getvalue()


FOREIGN = {
    "net.onnx": b"\x08\x08\x12\x07pytorch\x1a\x052.2.0:\x80",
    "net.h5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "net.keras": keras(),
    "net.tflite": b"\x1c\x00\x00\x00TFL3" + bytes(64),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_frameworks_are_served_by_a_command(here, name):
    (here / name).write_bytes(FOREIGN[name])
    with pytest.raises(InputError) as refused:
        load_checkpoint(name)
    message = str(refused.value)
    assert '--defence "cmd: python serve.py"' in message
    assert 'defences "cmd: python serve.py"' in in_python(message)


def test_the_index_of_a_file_in_parts_says_how_they_are_joined(here):
    (here / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "part-1"}}))
    with pytest.raises(InputError, match=r"the index of a file in several parts.*join them: torch.save"):
        load_checkpoint("model.safetensors.index.json")


def test_weights_that_lie_deep_are_named_and_taken_by_that_name(here):
    network, other = (build("digits-cnn", classes, 1) for classes in (10, 7))
    deep = {"run": {"best": {"model": {"weights": {"net": network.state_dict()}}}}}
    torch.save({**deep, "old": {"net": {"a": {"b": {"c": other.state_dict()}}}}}, "deep.pt")
    for named, classes in (("deep.pt#run/best/model/weights/net", 10), ("deep.pt#old/net/a/b", 7)):
        assert load_checkpoint(named, normalize="none").classes == classes
    with pytest.raises(InputError, match="no weights under run/worst in it; it has run, old, best"):
        load_checkpoint("deep.pt#run/worst")
    torch.save({"a": {"b": {"c": {"d": {"e": network.state_dict()}}}}}, "one.pt")
    for named in ("one.pt", "one.pt#a/b/c/d/e", "one.pt#a/b"):
        whole = load_checkpoint(named, normalize="none")
        assert torch.equal(whole.network.state_dict()["linear.weight"], network.linear.weight)


def test_one_sigmoid_output_has_a_remedy_that_works(here):
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Sigmoid()).state_dict(), "one.pt")
    with pytest.raises(InputError, match=r"--arch file.py:build.*pad\(z, \(1, 0\)\)"):
        load_checkpoint("one.pt")
    with pytest.raises(InputError, match=r"one number for each image.*pad\(z, \(1, 0\)\)"):
        load_checkpoint("one.pt", arch="own.py:one", image_shape=(1, 8, 8))
    loaded = load_checkpoint("one.pt", arch="own.py:two", normalize="none", image_shape=(1, 8, 8))
    x = torch.rand(5, 1, 8, 8)
    weight, bias = torch.load("one.pt").values()
    torch.testing.assert_close(
        loaded.network(x).softmax(1)[:, 1:], torch.sigmoid(x.flatten(1) @ weight.T + bias)
    )


def test_tables_are_taken_as_images_of_one_row(here):
    x, y = np.random.default_rng(0).random((30, 12), np.float32), np.arange(30) % 3
    with pytest.raises(InputError, match=r"give x.reshape\(len\(x\), 1, 1, -1\), and let the network"):
        dataset_in_memory((x, y))
    data = dataset_in_memory((x.reshape(30, 1, 1, 12), y))
    assert data.image_shape == (1, 1, 12)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    torch.save(network.state_dict(), "table.pt")
    loaded = load_checkpoint("table.pt", arch="own.py:table", normalize="none", image_shape=data.image_shape)
    check_data(loaded, data.image_shape, 3, "table")
    torch.testing.assert_close(loaded.network(data.batch(range(30))[0]), network(torch.from_numpy(x)))


def test_signals_say_how_their_network_begins(here):
    network = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14, 2))
    x = dataset_in_memory((torch.rand(8, 3, 16), [0, 1] * 4)).batch(range(8))[0]
    with pytest.raises(
        InputError, match=r"it answers signals \[n, C, T\]: let it begin with x = x.squeeze\(1\)$"
    ):
        answered(network, x)
    assert answered(lambda x: network(x.squeeze(1)), x).shape == (8, 2)
    torch.save(network.state_dict(), "signals.pt")
    with pytest.raises(InputError, match=r"let it begin with x = x.squeeze\(1\)"):
        load_checkpoint("signals.pt", arch="own.py:signals", normalize="none", image_shape=(1, 3, 16))


def test_grey_images_of_sixteen_bits_are_divided_by_65535(here):
    x = (np.arange(4 * 8 * 8).reshape(4, 8, 8) * 255).astype(np.uint16)
    y = np.array([0, 1, 0, 1])
    images = [Image.fromarray(image) for image in x]
    for given in ((x, y), list(zip(images, y))):
        with pytest.raises(InputError, match="where they have 16 bits, x / 65535"):
            dataset_in_memory(given)
    np.savez("grey.npz", x=x / 65535, y=y)
    assert load_npz(here / "grey.npz").image_shape == (1, 8, 8)
    for number, image in enumerate(images):
        (here / "pictures" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        image.save(here / "pictures" / str(number % 2) / f"{number}.png")
    with pytest.raises(InputError, match=r"grey with more than 8 bits.*--data npz:FILE of x / 65535"):
        load_data("folder:pictures")


def test_a_folder_with_some_of_imagenets_classes_names_the_data_that_work(here):
    for wnid in ("n01440764", "n02102040", "n02979186", "n03000684"):
        (here / "some" / wnid).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(here / "some" / wnid / "a.png")
    with pytest.raises(InputError, match="answers 1000; write --data imagenet:some, which"):
        load_data("folder:some").of_all_classes(1000)
    assert load_data("imagenet:some").of_all_classes(1000).labels.tolist() != [0, 1, 2, 3]
    with pytest.raises(InputError, match="imagenet:some, which"):
        load_data("folder:some@16").of_all_classes(1000)
