"""CIFAR, MNIST and Fashion-MNIST: the published files, where they may lie, and downloads."""

import gzip
import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits as bundled

from robustbench_coded.data import named_sets
from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.errors import InputError


def rows(images):
    return {image.tobytes() for image in np.asarray(images, dtype=np.uint8)}


def test_digits_are_split_without_overlap_and_keep_their_labels():
    train, test = load_data("digits", split="train"), load_data("digits", split="test")
    assert (len(train), len(test), test.image_shape, test.classes) == (1157, 640, (1, 8, 8), 10)
    stored = bundled()
    label_of = {image.astype(np.uint8).tobytes(): label for image, label in zip(stored.images, stored.target)}
    assert rows(train.images) | rows(test.images) == set(label_of)
    for data in (train, test):
        assert [label_of[image.tobytes()] for image in data.images] == data.labels.tolist()
    x, _ = test.batch(np.arange(640))
    assert x.min() == 0 and x.max() == 1


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CSROBUST_DATA", raising=False)


def save_cifar(folder, name="cifar10", split="test", fill=0):
    folder.mkdir(parents=True, exist_ok=True)
    x = np.full((4, 32, 32, 3), fill, np.uint8)
    np.savez(folder / f"{name}_{split}.npz", x=x, y=np.array([0, 1, 2, 9]))


def test_cifar_is_looked_for_in_order(tmp_path, monkeypatch, no_cache):
    for number, place in enumerate(("given", "configured", "cache/csrobust")):
        save_cifar(tmp_path / place, fill=number)
    monkeypatch.setenv("CSROBUST_DATA", str(tmp_path / "configured"))
    found = []
    for data_dir in (tmp_path / "given", tmp_path / "absent"):
        found.append(int(load_data("cifar10", data_dir=data_dir).images[0, 0, 0, 0]))
    monkeypatch.delenv("CSROBUST_DATA")
    found.append(int(load_data("cifar10").images[0, 0, 0, 0]))
    assert found == [0, 1, 2]


@pytest.mark.parametrize("place", ["data", "../data", "cache/csrobust", "cache", "cache/torch", "home/data"])
def test_data_are_found_where_scripts_put_them(tmp_path, monkeypatch, no_cache, place):
    (tmp_path / "work").mkdir()
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(tmp_path / "work")
        folder = (tmp_path / "work" if place == "data" else tmp_path) / place.removeprefix("../")
        save_cifar(folder, fill=3)
        assert load_data("cifar10").images.max() == 3
        with pytest.raises(InputError) as absent:
            load_data("cifar100")
    assert place.split("/")[-1] in str(absent.value)
    assert "--data-dir DIR or $CSROBUST_DATA" in str(absent.value)


def test_cifar_has_its_classes_even_where_the_file_has_few(tmp_path, no_cache):
    for name, classes in (("cifar10", 10), ("cifar100", 100)):
        save_cifar(tmp_path, name, "train")
        data = load_data(name, data_dir=tmp_path, split="train")
        assert data.classes == len(set(data.class_names)) == classes


def test_a_label_beyond_the_named_classes_is_refused(tmp_path, no_cache):
    np.savez(tmp_path / "cifar10_test.npz", x=np.zeros((1, 32, 32, 3), np.uint8), y=np.array([10]))
    with pytest.raises(InputError, match="label 10 of image 0 is out of range; labels are 0 to 9"):
        load_data("cifar10", data_dir=tmp_path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was executed",))


def test_altered_torchvision_files_are_refused_before_they_are_unpickled(tmp_path, no_cache):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="incomplete or altered CIFAR-10 files"):
        load_data("cifar10", data_dir=tmp_path)


def test_a_failed_download_says_which_file_to_put_where_and_leaves_nothing(tmp_path, monkeypatch, no_cache):
    import torchvision.datasets

    def offline(root, download):
        (root_file := named_sets.Path(root) / "half").write_text("half")
        assert root_file.exists()
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", offline)
    with pytest.raises(
        InputError, match=r"no route to host.*put cifar100_test\.npz .* or torchvision's cifar-100-python"
    ):
        load_data("cifar100", data_dir=tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(InputError, match="did you mean cifar100"):
        load_data("cifar-100")
    with pytest.raises(InputError, match="npz:FILE"):
        load_data("npz:")
    with pytest.raises(ValueError, match="expected split"):
        load_data("digits", split="validation")


def test_auto_believes_metadata_then_input_and_classes():
    assert data_for({"data": "npz:mine.npz"}, 10, 3, 32) == "npz:mine.npz"
    assert data_for({}, 10, 1, 8) == data_for({"data": ""}, 10, 1, None) == "digits"
    assert data_for({}, 10, 1, 28) == "mnist"
    assert (data_for({}, 10, 3, None), data_for({}, 100, 3, 32)) == ("cifar10", "cifar100")
    for classes, channels, size in ((7, 3, 32), (10, 1, 32), (10, 3, 64)):
        with pytest.raises(InputError, match=rf"{channels} channels and {classes} classes.*--data"):
            data_for({}, classes, channels, size)


RNG = np.random.default_rng(0)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
    return header + array.astype(np.uint8).tobytes()


def images(count=5, side=28, fill=None):
    return RNG.integers(0, 256, (count, side, side)) if fill is None else np.full((count, side, side), fill)


def put(folder, x=None, y=None, *, stem="t10k", compressed=True):
    folder.mkdir(parents=True, exist_ok=True)
    x, y = images() if x is None else x, np.arange(5) if y is None else y
    for kind, array in (("images-idx3", x), ("labels-idx1", y)):
        data = array if isinstance(array, bytes) else idx(array)
        name = f"{stem}-{kind}-ubyte"
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return x


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(("split", "stem"), [("test", "t10k"), ("train", "train")])
def test_pixels_and_labels_come_in_the_order_of_the_files(tmp_path, compressed, split, stem):
    x = put(tmp_path / "MNIST" / "raw", stem=stem, compressed=compressed)
    data = load_data("mnist", data_dir=tmp_path, split=split)
    assert (data.image_shape, data.classes, data.labels.tolist()) == ((1, 28, 28), 10, [0, 1, 2, 3, 4])
    batch, _ = data.batch(range(5))
    assert np.array_equal((batch[:, 0].numpy() * 255).round(), x)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("fashion-mnist", "fashion-mnist"),
    ],
)
def test_the_two_data_sets_are_told_apart_by_their_folders(tmp_path, name, folder):
    put(tmp_path / folder, images(fill=7))
    assert load_data(name, data_dir=tmp_path).images.max() == 7
    other = "mnist" if name == "fashion-mnist" else "fashion-mnist"
    with pytest.raises(InputError, match=f"{other}: not found in .* put t10k-images-idx3-ubyte.gz, t10k"):
        load_data(other, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (idx(images())[:-1], None, "damaged, or not the published images"),
        (idx(np.arange(5)), None, "damaged, or not the published images"),
        (b"\0\0\x08\x03" + b"\xff" * 12, None, "damaged"),
        (images(side=27), None, "damaged, or not the published images"),
        (None, np.arange(4), "4 labels for the 5 images"),
        (None, np.array([0, 1, 2, 3, 10]), "label 10 is out of range"),
        (images(count=0), np.arange(0), "0 labels for the 0 images"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, x, y, message):
    put(tmp_path / "mnist", x, y)
    with pytest.raises(InputError, match=message) as error:
        load_data("mnist", data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_compressed_as_its_name_says_is_refused(tmp_path):
    put(tmp_path / "mnist")
    for content in (b"no gzip", gzip.compress(idx(images()))[:-9]):
        (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(content)
        with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte\.gz: cannot be read"):
            load_data("mnist", data_dir=tmp_path)
