"""Folders named by WordNet ids: numbering, lists, preprocessing, and data of some classes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from robustbench_coded.data.image_folders import Preprocessing, wnids
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.models.pixel_model import SomeClasses

RNG = np.random.default_rng(0)


def write(path, width=40, height=30, colour=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise if colour is None else np.full_like(noise, colour)).save(path)


def names_of(data):
    return [f"{path.parent.name}/{path.name}" for path in data.images._paths]


def test_the_ids_are_imagenets_in_the_order_of_the_outputs():
    ids = wnids()
    assert len(set(ids)) == 1000
    assert list(ids) == sorted(ids)
    # Facts of any trained network: 0 tench, 207 golden retriever, 281 tabby, 999 toilet paper.
    assert [ids.index(wnid) for wnid in ("n01440764", "n02099601", "n02123045", "n15075141")] == [
        0,
        207,
        281,
        999,
    ]


@pytest.mark.parametrize("below", ["", "val"])
def test_classes_keep_their_numbers_where_folders_are_missing(tmp_path, below):
    for wnid in ("n02123045", "n15075141", "not-a-class"):
        write(tmp_path / below / wnid / "a.png")
    data = load_data(f"imagenet:{tmp_path}+prep=Crop32")
    assert data.classes == 1000 and data.outputs is None
    assert sorted(data.labels.tolist()) == [281, 999]


def test_a_list_settles_images_and_their_order(tmp_path):
    for name in ("n02123045/a.png", "n02123045/b.png", "n15075141/c.png"):
        write(tmp_path / name)
    listed = ["n15075141/c.png", "n02123045/b.png"]
    (tmp_path / "ids.txt").write_text("\n".join(listed) + "\n\n")
    data = load_data(f"imagenet:{tmp_path}+list={tmp_path / 'ids.txt'}+prep=Res16Crop8")
    assert names_of(data) == listed
    assert data.labels.tolist() == [999, 281]
    assert "those of ids.txt in its order" in data.source


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n02123045/z.png\n", "n02123045/z.png is no image in .*; expected lines WNID/IMAGE"),
        ("n02123045/a.png\n../a.png\n", r"\.\./a.png is no image in .*; expected lines WNID/IMAGE"),
        ("a.png", "a.png is no image in"),
        ("n02123045/..", "is no image in"),
        ("\n\n", "names no images"),
        ("\udcff", "cannot be read"),
    ],
)
def test_lists_that_do_not_do(tmp_path, text, message):
    write(tmp_path / "n02123045/a.png")
    (tmp_path / "ids.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message) as error:
        load_data(f"imagenet:{tmp_path}+list={tmp_path / 'ids.txt'}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("Res256Crop224", [v2.Resize(256), v2.CenterCrop(224)]),
        ("BicubicRes256Crop224", [v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)]),
        ("Crop288", [v2.CenterCrop(288)]),
        ("Res224", [v2.Resize([224, 224])]),
    ],
)
@pytest.mark.parametrize(("width", "height"), [(500, 333), (301, 640), (120, 90)])
def test_images_are_prepared_as_torchvision_prepares_them(tmp_path, name, reference, width, height):
    write(tmp_path / "n02123045/a.png", width, height)
    data = load_data(f"imagenet:{tmp_path}+prep={name}")
    expected = v2.Compose([*reference, v2.PILToTensor()])(Image.open(tmp_path / "n02123045/a.png"))
    x, _ = data.batch([0])
    assert data.image_shape == tuple(expected.shape)
    assert torch.equal((x[0] * 255).round().to(torch.uint8), expected)


@pytest.mark.parametrize(
    "name", ["", "Res", "Crop4", "Bicubic", "BicubicCrop224", "Res224Crop256", "Center224"]
)
def test_unknown_preprocessings_are_refused(name):
    with pytest.raises(InputError, match=r"\+prep="):
        Preprocessing.named(name)


def test_data_of_some_classes_compare_those_logits_alone(tmp_path):
    chosen = wnids()[3::5]
    for wnid in chosen:
        write(tmp_path / wnid / "a.png", 8, 8)
    data = load_data(f"imagenet-r:{tmp_path}+prep=Crop8")
    assert (len(data), data.classes, data.class_names) == (200, 200, chosen)
    assert data.outputs == tuple(range(3, 1000, 5))
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 1000))
    x, y = data.batch(range(20))
    whole = network(x)
    some = SomeClasses(network, data.outputs)(x)
    assert torch.equal(some, whole[:, 3::5])
    # Labels of the whole network are those of the same classes.
    labelled = data.of_all_classes(1000)
    _, all_labels = labelled.batch(range(20))
    assert torch.equal(some.gather(1, y[:, None]), whole.gather(1, all_labels[:, None]))
    assert labelled.classes == 1000
    assert data.of_all_classes(200) is data
    with pytest.raises(InputError, match="it has 200 classes, and the network answers 10;"):
        data.of_all_classes(10)


def test_another_number_of_classes_is_no_imagenet_r(tmp_path):
    write(tmp_path / "n02123045/a.png")
    with pytest.raises(InputError, match="imagenet-r has 200 classes, 1 folders are of ImageNet's"):
        load_data(f"imagenet-r:{tmp_path}")


def test_folders_that_are_no_imagenet_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder; expected ImageNet's validation images"):
        load_data(f"imagenet:{tmp_path / 'absent'}")
    write(tmp_path / "dog/a.png")
    with pytest.raises(InputError, match="no folder is named by a WordNet id"):
        load_data(f"imagenet:{tmp_path}")
    with pytest.raises(InputError, match=r"expected ImageNet-R, imagenet-r\.tar unpacked"):
        load_data(f"imagenet-r:{tmp_path}")
    (tmp_path / "n02123045").mkdir()
    with pytest.raises(InputError, match="its folders hold no images"):
        load_data(f"imagenet:{tmp_path}")


def test_images_are_decoded_when_a_batch_asks_for_them_and_not_kept(tmp_path, monkeypatch):
    for number in range(12):
        write(tmp_path / f"n02123045/{number}.png")
    data = load_data(f"imagenet:{tmp_path}+prep=Crop16")
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or real(path))
    data.batch([1, 2])
    data.batch([1])
    assert len(opened) == 3
    assert not any(isinstance(value, np.ndarray) for value in vars(data.images).values())
