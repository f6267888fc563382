"""The error of the codec on a smooth function, against Lemma 1 of arXiv:2510.00253."""

import numpy as np
import pytest
import torch

from robustbench_coded.coding.codec import Codec

K = 8
SIZES = [2 * K * 2**i for i in range(6)]  # 2K .. 64K


def smooth(x):
    return torch.cat([torch.sin(2 * x[:, :1] * x[:, 1:2]), torch.tanh(x)], dim=1)


def squared_error(n, **options):
    x = torch.rand(1, K, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimate = Codec(K, n, **options).smoothed(x, smooth)[0]
    return (estimate - smooth(x[0])).square().sum(1).mean().item()


def slope(errors):
    return np.polyfit(np.log(SIZES), np.log(errors), 1)[0]


@pytest.mark.parametrize("order", [3, 5])
def test_error_falls_with_the_cube_of_the_number_of_coded_inputs(order):
    assert slope([squared_error(n, order=order) for n in SIZES]) <= -3
