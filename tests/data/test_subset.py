import numpy as np
import pytest
import torch

from robustbench_coded.data.dataset import stratified_rows


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
