"""The levels that pixels have, found in the pixels themselves."""

import numpy as np
import pytest
import torch

from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.data.dataset import Dataset, darkness_of, levels_of, stratified_rows
from robustbench_coded.data.named_sets import load_digits


def toy(count=6, channels=3, dtype=np.uint8):
    pixels = np.arange(count * 4 * 5 * channels, dtype=dtype).reshape(count, 4, 5, channels)
    return Dataset("toy", pixels, 255.0, np.arange(count, dtype=np.int64) % 3, 3, (), "made here")


def test_batch_is_channels_first_in_the_unit_range():
    data = toy()
    x, y = data.batch([4, 0])
    assert x.shape == (2, 3, 4, 5) and x.dtype == torch.float32 and y.tolist() == [1, 0]
    assert x[0, 2, 3, 1] == pytest.approx(int(data.images[4, 3, 1, 2]) / 255)
    assert data.image_shape == (3, 4, 5)


def test_batch_does_not_change_the_stored_pixels():
    data = Dataset("f", np.ones((2, 2, 2, 1), np.float32), 1.0, np.zeros(2, np.int64), 2, (), "made here")
    before = data.images.copy()
    x, _ = data.batch([0, 1])
    x.zero_()
    assert np.array_equal(data.images, before)


def test_subset_names_rows_of_the_whole_set():
    data = toy()
    assert torch.equal(data.subset(np.arange(4)).batch([3])[0], data.batch([3])[0])
    nested = data.subset(np.array([5, 1, 3])).subset(np.array([2, 0]))
    assert torch.equal(nested.batch([0, 1])[0], data.batch([3, 5])[0])
    assert len(nested) == 2 and nested.labels.tolist() == [0, 2] and nested.images.shape == (2, 4, 5, 3)


def test_digest_depends_on_pixels_and_labels_and_nothing_else():
    data = toy()
    same = Dataset(
        "other name", data.images[np.arange(6)], 255.0, data.labels, 3, ("a", "b", "c"), "elsewhere"
    )
    assert data.sha256 == same.sha256 == data.subset(np.arange(6)).sha256
    pixels, labels = data.images.copy(), data.labels.copy()
    pixels[5, 0, 0, 0] ^= 1
    labels[5] = 0
    assert Dataset("toy", pixels, 255.0, data.labels, 3, (), "").sha256 != data.sha256
    assert Dataset("toy", data.images, 255.0, labels, 3, (), "").sha256 != data.sha256


def test_each_image_has_a_digest_of_its_values_and_label():
    data = toy()
    floats = Dataset("f", data.images.astype(np.float32) / 255, 1.0, data.labels, 3, (), "")
    assert len(data.each_digest) == 6 * 8 and floats.each_digest == data.each_digest
    assert data.subset(np.arange(4)).each_digest == data.each_digest[: 4 * 8]
    pixels, labels = data.images.copy(), data.labels.copy()
    pixels[4, 0, 0, 0] ^= 1
    labels[5] += 1
    other = Dataset("toy", pixels, 255.0, labels, 3, (), "").each_digest
    changed = [i for i in range(6) if other[8 * i : 8 * i + 8] != data.each_digest[8 * i : 8 * i + 8]]
    assert changed == [4, 5]


class Recorded:
    """Images of a size that are made when they are asked for."""

    def __init__(self, count, side):
        self.shape, self.most = (count, side, side, 3), 0

    def __getitem__(self, rows):
        self.most = max(self.most, len(rows))
        return np.full((len(rows), *self.shape[1:]), 7, np.uint8)


def test_hashing_large_images_keeps_few_of_them_in_memory():
    def data(images):
        labels = np.zeros(images.shape[0], np.int64)
        return Dataset("d", images, 255.0, labels, 2, (), "")

    large, small = Recorded(300, 224), Recorded(300, 8)
    digest = data(large).sha256
    _ = data(small).sha256
    assert large.most * 224 * 224 * 3 <= 2**24
    assert small.most == 300
    # However many are read at a time, it is one digest.
    assert digest == data(np.full(large.shape, 7, np.uint8)).sha256


def data_of(x):
    return dataset_in_memory((x, torch.arange(len(x)) % 2))


@pytest.mark.parametrize("levels", [1, 15, 16, 100, 255])
def test_multiples_of_one_level_have_it(levels):
    whole = np.random.default_rng(0).integers(0, levels + 1, (40, 1, 8, 8))
    assert levels_of(data_of(torch.from_numpy(whole / levels).float())) == levels


def test_digits_have_16_and_their_bytes_do_too():
    assert levels_of(load_digits("test")) == 16
    whole = torch.from_numpy(np.random.default_rng(0).integers(0, 6, (40, 1, 8, 8)))
    assert levels_of(data_of((51 * whole).to(torch.uint8))) == 5


def test_floats_of_any_value_have_none():
    assert levels_of(data_of(torch.rand(40, 1, 8, 8))) is None
    assert levels_of(data_of(torch.full((4, 1, 2, 2), 0.5**0.5))) is None


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.arange(64, dtype=torch.uint8) % 17, "the brightest pixel is 16, and 255 is taken for white"),
        (torch.arange(64).float() % 17 / 255, "the brightest pixel is 0.0627, and 1 is taken for white"),
        (255 * (torch.arange(64) == 9).to(torch.uint8), ""),  # sparse
        (torch.zeros(64, dtype=torch.uint8), ""),
    ],
)
def test_images_of_few_low_levels_are_named_with_what_is_taken_for_white(x, said):
    sentence = darkness_of(data_of(x.view(1, 1, 8, 8).repeat(2, 1, 1, 1)))
    assert said in sentence and bool(sentence) == bool(said)


def rows(labels, count, seed=0):
    return stratified_rows(np.asarray(labels), count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ((50, 30, 20), 10, {(5, 3, 2)}),
        ((50, 30, 20), 11, {(6, 3, 2)}),  # 5.5, 3.3, 2.2: the largest remainder gets the one that is left
        ((6, 3, 1), 4, {(3, 1, 0), (2, 1, 1)}),  # 2.4, 1.2, 0.4: two remainders are equal
        ((10, 10), 20, {(10, 10)}),
        ((10, 10), 0, {(0, 0)}),
    ],
)
def test_every_class_has_its_share_by_largest_remainder(sizes, count, expected):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    found = {
        tuple(np.bincount(labels[rows(labels, count, seed)], minlength=len(sizes))) for seed in range(20)
    }
    assert found == expected


def test_rows_are_different_ones_in_random_order_and_all_are_as_likely():
    labels = np.repeat([0, 1], [30, 10])
    chosen = np.stack([rows(labels, 8, seed) for seed in range(1000)])
    assert all(len(set(row)) == 8 for row in chosen.tolist())
    often = np.bincount(chosen.ravel(), minlength=40)
    # Each is taken in a fifth of 1000 choices: 200, standard deviation 12.6.
    assert often.min() > 150 and often.max() < 250
    # The six of the first class are not the first six of the batch.
    assert abs((labels[chosen[:, 0]] == 1).mean() - 0.25) < 0.06


@pytest.mark.parametrize("count", [-1, 4])
def test_more_than_there_are_is_an_error(count):
    with pytest.raises(ValueError, match="from 0 to 3"):
        rows([0, 1, 1], count)
