"""MNIST's file format, and where the files may lie."""

import gzip

import numpy as np
import pytest

from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.errors import InputError

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


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CSROBUST_DATA", raising=False)


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


def test_the_folder_itself_may_be_given_where_its_name_says_which_it_is(tmp_path):
    put(tmp_path / "mnist")
    assert len(load_data("mnist", data_dir=tmp_path / "mnist")) == 5
    with pytest.raises(InputError, match="fashion-mnist: not found in"):
        load_data("fashion-mnist", data_dir=tmp_path / "mnist")


@pytest.mark.parametrize("given", ["FashionMNIST", "FashionMNIST/raw"])
def test_torchvisions_folder_itself_may_be_given(tmp_path, given):
    put(tmp_path / "FashionMNIST" / "raw", images(fill=7))
    assert load_data("fashion-mnist", data_dir=tmp_path / given).images.max() == 7
    with pytest.raises(InputError, match="mnist: not found in"):  # the other set has files of these names
        load_data("mnist", data_dir=tmp_path / given)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (idx(images())[:-1], None, "its header promises 3920 bytes, it holds 3919; damaged"),
        (idx(images()) + b"\0", None, "its header promises 3920 bytes, it holds 3921; damaged"),
        (b"", None, "not an idx file of 3 dimensions"),
        (idx(np.arange(5)), None, "not an idx file of 3 dimensions"),
        (b"\0\0\x08\x03" + b"\xff" * 12, None, "damaged"),
        (images(side=27), None, "expected images of 28 x 28, got 27 x 27"),
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


def test_grey_networks_are_for_digits_or_mnist_by_their_size():
    assert [data_for({}, 10, 1, size) for size in (None, 8, 28)] == ["digits", "digits", "mnist"]
    with pytest.raises(InputError, match="no data known for 1 channels and 10 classes at 32 x 32"):
        data_for({}, 10, 1, 32)
