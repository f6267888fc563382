"""Images and labels as arrays: in memory, and in .npz files."""

import io
import itertools
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from robustbench_coded.data.arrays import dataset_in_memory, pixels
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError

X = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5) / 255
Y = torch.tensor([1, 0])


def same(data):
    x, y = dataset_in_memory(data).batch([0, 1])
    return torch.equal(x, X) and torch.equal(y, Y)


class Endless(Dataset):
    """Answers any index, so that it must be asked for its length."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[index % 2], Y[index % 2]


class Stream(IterableDataset):
    """Has a length, and inherits an item access that only raises."""

    def __len__(self):
        return 2

    def __iter__(self):
        return zip(X, Y)


@pytest.mark.parametrize(
    "data",
    [
        Endless(),
        Stream(),
        DataLoader(Stream()),
        iter([(X, Y)]),
        ((x, y) for x, y in zip(X, Y)),
        [(X[0], 1), (X[1], 0)],
        ((X[0], 1), (X[1], 0)),
        [[X[:1], [1]], [X[1:], [0]]],
        ([X[0], X[1]], (1, 0)),
        (X.requires_grad_(False).numpy().tolist(), [1, 0]),
        {"img": list(X.permute(0, 2, 3, 1)), "fine_label": [1, 0]},
        pd.DataFrame({"image": list(X.numpy()), "label": Y.numpy()}, index=["a", "b"]),
        (pd.Series(list(X.numpy()), index=["a", "b"]), pd.Series([1, 0])),
        (X.to_sparse(), Y),
    ],
)
def test_every_form_gives_the_same_images(data):
    assert same(data)


@pytest.mark.parametrize("data", [(X[:1], 1), (X[0], 1), (X[0], Y[0])])
def test_one_image_may_have_its_label_as_a_number(data):
    found = dataset_in_memory(data)
    assert torch.equal(found.batch([0])[0], X[:1]) and found.labels.tolist() == [1]


def test_a_loader_that_shuffles_has_one_order_and_leaves_the_generator_alone():
    data = TensorDataset(torch.rand(32, 1, 2, 2), torch.arange(32))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = dataset_in_memory(DataLoader(data, batch_size=5, shuffle=True))
    assert torch.equal(torch.rand(1), expected)
    second = dataset_in_memory(DataLoader(data, batch_size=5, shuffle=True))
    assert first.sha256 == second.sha256
    assert first.labels.tolist() != list(range(32)) == sorted(first.labels)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("1", 3)])
def test_pictures_of_pil_have_one_or_three_channels(mode, channels):
    picture = Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode)
    x, _ = dataset_in_memory([(picture, 0), (picture, 1)]).batch([0])
    assert x.shape == (1, channels, 4, 5) and (x == 1).all()


def test_what_rounding_leaves_outside_the_box_is_inside():
    mean, deviation = 0.47, 0.26
    x = torch.tensor([0.0, 1.0, 0.3]).repeat(2, 1, 1, 1)
    again = ((x - mean) / deviation) * deviation + mean
    again[0, 0, 0, 0], again[0, 0, 0, 1] = -1e-7, 1 + 1e-7
    pixels, _ = dataset_in_memory((again, Y)).batch([0, 1])
    assert pixels.min() == 0 and pixels.max() == 1
    with pytest.raises(InputError, match=r"expected pixels in \[0, 1\], got \[0, 1.001\]"):
        dataset_in_memory((torch.tensor([0.0, 1.001]).repeat(2, 1, 1, 1), Y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_precision_become_float32(dtype):
    x, _ = dataset_in_memory((torch.full((2, 1, 2, 2), 0.5, dtype=dtype), Y)).batch([0])
    assert x.dtype == torch.float32 and (x == 0.5).all()


class Broken(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise KeyError("image-17")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Broken(), r"in memory: it can't be read: KeyError: 'image-17' \(test_arrays.py, line \d+\)"),
        ([], "there are no images"),
        (X, "expected a pair .* got Tensor"),
        (pd.DataFrame(X.flatten(1).numpy()), r"got a dictionary of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9$"),
        (None, "expected a pair .* got NoneType"),
        ((X, np.array(["cat", "dog"])), "number the classes: numpy.unique"),
        ((X, torch.tensor([0.5, 1])), "expected y integers"),
        ((X, -Y), "label -1 of image 0 is out of range"),
        ((X, torch.tensor([0, torch.inf])), "label inf of image 1 is out of range"),
        ((X * torch.nan, Y), "NaN or infinite"),
        ([(X[0], 1), (X[1, :, 1:], 0)], r"do not fit together \(.*\); give them one size"),
        ((X.expand(2, 3, 4, 5)[:, [0, 0]], Y), r"expected images .* got float32 \[2, 2, 4, 5\]"),
    ],
)
def test_anything_else_is_refused_in_one_line(data, said):
    with pytest.raises(InputError, match=said) as refused:
        dataset_in_memory(data)
    assert "\n" not in str(refused.value)


def test_a_data_set_that_does_not_fit_into_memory_is_refused_at_its_first_image(monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    with pytest.raises(InputError, match=r"do not fit into memory; give a torch.utils.data.Subset of them"):
        dataset_in_memory(Endless())


@pytest.mark.parametrize("form", [torch.as_tensor, np.asarray, list])
def test_bytes_of_0_and_1_alone_are_black_and_white(form, tmp_path):
    x = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 1, 4, 4) % 2
    data = dataset_in_memory((form(x), Y))
    assert torch.equal(data.batch([0, 1])[0], torch.from_numpy(x).float())
    np.savez(tmp_path / "a.npz", x=x, y=Y.numpy())
    stored = load_data(f"npz:{tmp_path / 'a.npz'}")
    assert stored.sha256 == data.sha256 == dataset_in_memory((x.astype(float), Y)).sha256
    with pytest.raises(InputError, match=r"x: the uint8 pixels are all 0 or 1; give x as floats where 1 is"):
        pixels(x, "x")  # one batch of them may be as good as black
    assert dataset_in_memory((2 * x, Y)).batch([0])[0].max() == 2 / 255
    assert not dataset_in_memory((0 * x, Y)).notes  # black in any case


def test_batches_of_grey_images_may_end_with_a_single_one():
    x, y = torch.rand(3, 4, 5), torch.tensor([0, 1, 1])
    whole = dataset_in_memory((x, y))
    for size in (1, 2, 3):
        parts = DataLoader(TensorDataset(x, y), batch_size=size)
        assert dataset_in_memory(parts).sha256 == whole.sha256


BYTES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
LABELS = np.array([1, 0])


def save(path, **arrays):
    np.savez(path, **arrays)
    return load_data(f"npz:{path}")


def test_colour_grey_and_float_images_are_read(tmp_path):
    data = save(tmp_path / "a.npz", x=BYTES, y=LABELS.astype(np.uint8))
    assert np.array_equal(data.images, BYTES) and data.labels.dtype == np.int64 and data.classes == 2
    assert save(tmp_path / "b.npz", x=BYTES[..., 0], y=LABELS).image_shape == (1, 4, 4)
    floats = save(tmp_path / "c.npz", x=BYTES / 255, y=LABELS)
    assert floats.batch([1])[0].numpy() == pytest.approx(data.batch([1])[0].numpy(), abs=1e-7)
    assert np.array_equal(save(tmp_path / "f.npz", x=BYTES.transpose(0, 3, 1, 2), y=LABELS).images, BYTES)
    assert save(tmp_path / "d.npz", x=BYTES, y=np.array([0.0, 41.0])).classes == 42
    assert save(tmp_path / "e.npz", x=BYTES, y=np.array([0, 0])).classes == 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": BYTES}, r"no array named y \(it holds x\)"),
        ({"images": BYTES, "labels": LABELS}, r"it holds images, labels"),
        ({"x": BYTES.astype(int), "y": LABELS}, r"got int64; .*x.astype\('uint8'\)"),
        ({"x": BYTES.astype(float), "y": LABELS}, r"got \[0, 95\]; divide"),
        ({"x": BYTES[:, :, :, :2], "y": LABELS}, r"uint8 \[2, 4, 4, 2\]"),
        ({"x": BYTES[:0], "y": LABELS[:0]}, r"uint8 \[0, 4, 4, 3\]"),
        ({"x": BYTES, "y": np.array([2**40, 0])}, "label 1099511627776 of image 0"),
        ({"x": np.array([LABELS, None], dtype=object), "y": LABELS}, "Object arrays cannot be loaded"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message) as caught:
        save(tmp_path / "wrong.npz", **arrays)
    assert "wrong.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_truncated_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_data(f"npz:{tmp_path}/absent.npz")
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, x=BYTES, y=LABELS)
    content = whole.read_bytes()
    for broken in (b"", b"not an archive", content[: len(content) // 2], pickle.dumps({"x": 1})):
        (tmp_path / "broken.npz").write_bytes(broken)
        with pytest.raises(InputError, match=r"not a readable \.npz"):
            load_data(f"npz:{tmp_path}/broken.npz")
    flipped = bytearray(content)
    middle = content.index(b"x.npy") + 150
    flipped[middle : middle + 20] = bytes(20)
    (tmp_path / "flipped.npz").write_bytes(flipped)
    with pytest.raises(InputError, match=r"flipped\.npz"):
        load_data(f"npz:{tmp_path}/flipped.npz")


def test_a_header_that_promises_more_than_is_stored_is_refused_before_memory_is_taken(tmp_path):
    header = io.BytesIO()
    shape = (10**9, 1000, 1000, 3)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    labels = io.BytesIO()
    np.save(labels, LABELS)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(100))
        archive.writestr("y.npy", labels.getvalue())
    with pytest.raises(InputError, match=r"not a readable \.npz"):
        load_data(f"npz:{tmp_path}/huge.npz")


def test_arrays_larger_than_memory_are_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "big.npz", x=BYTES, y=LABELS)
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    with pytest.raises(InputError, match="do not fit into memory"):
        load_data(f"npz:{tmp_path}/big.npz")


def test_a_stream_that_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 1000)
    endless = ((np.zeros((1, 50, 50), np.float32), 0) for _ in itertools.count())
    with pytest.raises(InputError, match=r"do not fit into memory; give a part of it, as itertools.islice"):
        dataset_in_memory(endless)


def test_a_dictionary_of_splits_is_refused_with_the_one_to_take():
    rows = [{"image": np.zeros((8, 8, 3), np.uint8), "label": 0}]
    with pytest.raises(
        InputError, match=r"got 2 data sets \(train, test\); give one of them: data\['test'\]"
    ):
        dataset_in_memory({"train": rows, "test": rows})
