"""The error of the codec on a smooth function, against Lemma 1 and Theorem 1 of arXiv:2510.00253."""

import numpy as np
import pytest
import torch

from robustbench_coded.coding.codec import Codec

K = 8
SIZES = [2 * K * 2**i for i in range(6)]  # 2K .. 64K


def smooth(x):
    return torch.cat([torch.sin(2 * x[:, :1] * x[:, 1:2]), torch.tanh(x)], dim=1)


def squared_error(n, missing=(), **options):
    x = torch.rand(K, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    codec, survivors = Codec(K, n, **options), [j for j in range(n) if j not in missing]
    values = smooth(codec.encode(x))[survivors]
    return (codec.decode(values, surviving=survivors) - smooth(x)).square().sum(1).mean().item()


def slope(errors):
    return np.polyfit(np.log(SIZES), np.log(errors), 1)[0]


@pytest.mark.parametrize("order", [3, 5])
def test_error_falls_with_the_cube_of_the_number_of_coded_inputs(order):
    assert slope([squared_error(n, order=order) for n in SIZES]) <= -3


def worst_error(n, lost):
    """The largest error over runs of neighbouring coded outputs that are lost: the widest gaps."""
    starts = range(0, n - lost + 1, max(1, n // 16))
    return max(squared_error(n, range(start, start + lost)) for start in starts)


@pytest.mark.parametrize("lost", [1, 2, 4, 8])
def test_error_falls_as_fast_with_stragglers(lost):
    errors = [worst_error(n, lost) for n in SIZES]
    assert slope(errors) <= -3
    assert errors[0] > 2 * squared_error(SIZES[0])


def test_error_stays_level_when_stragglers_grow_with_the_coded_inputs():
    # Theorem 1 bounds the error by C ((S + 1) / N)^3: the same C must do when S + 1 doubles with N.
    errors = [worst_error(n, n // 8 - 1) for n in SIZES]
    assert max(errors) <= 8 * errors[0]
