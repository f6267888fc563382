"""The levels that pixels have, found in the pixels themselves."""

import numpy as np
import pytest
import torch

from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.data.dataset import levels_of
from robustbench_coded.data.named_sets import load_digits


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
