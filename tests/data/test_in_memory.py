"""Labelled images in memory: forms that docs/in-memory.md has no line for, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from robustbench_coded.data.arrays import dataset_in_memory
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
    ],
)
def test_every_form_gives_the_same_images(data):
    assert same(data)


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
        (Broken(), r"in memory: it can't be read: KeyError: 'image-17' \(test_in_memory.py, line \d+\)"),
        ([], "there are no images"),
        (X, "expected pairs .* got Tensor"),
        ("digits", "expected a pair .* got str"),
        (None, "expected a pair .* got NoneType"),
        ((X, np.array(["cat", "dog"])), "number the classes: numpy.unique"),
        ((X, torch.tensor([0.5, 1])), "expected y integers"),
        ((X, torch.tensor([float("nan"), 1])), "expected y integers"),
        ((X, -Y), "label -1 of image 0 is out of range"),
        ((X * torch.nan, Y), "NaN or infinite"),
        (({"x": X}, Y), "expected"),
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
