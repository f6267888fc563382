import math

import pytest
import torch
from torch import nn

from robustbench_coded.defences.inferences import GaussianNoise, Standard
from robustbench_coded.defences.matching import STRENGTH, clean_accuracy, match_clean
from robustbench_coded.defences.options import parse_defence


class Threshold(nn.Module):
    """Class 1 where the one pixel is above one half."""

    def forward(self, x):
        t = x.flatten(1)[:, :1] - 0.5
        return torch.cat([-t, t], dim=1)


# All inputs lie 0.1 above the threshold: under noise, a share Phi(0.1 / sigma) of them is answered right.
BATCHES = [(torch.full((1000, 1, 1, 1), 0.6), torch.ones(1000, dtype=torch.int64))]


def match(target):
    return match_clean(lambda s: GaussianNoise(Threshold(), s), target, BATCHES, weakest=0.0, strongest=1.0)


def test_finds_the_deviation_that_the_normal_distribution_gives():
    found = match(0.8)
    # 4,000 draws of a fair estimate: 0.0063 is one standard error, and dPhi/dsigma is about -2 here.
    assert found.accuracy == pytest.approx(0.8, abs=0.001)
    assert found.setting == pytest.approx(0.1 / 0.8416, abs=0.012)


def test_bisection_ends_within_its_last_interval():
    found = match(0.8)
    same_draws = clean_accuracy(GaussianNoise(Threshold(), found.setting), BATCHES, seed=0, draws=4)
    assert same_draws == found.accuracy
    assert math.isclose(found.setting * 2**12, round(found.setting * 2**12))


def test_a_target_out_of_reach_gives_the_nearest_end():
    assert match(1.0).setting == 0.0
    assert match(0.1).setting == 1.0


def test_a_deterministic_defence_has_one_accuracy():
    x, y = BATCHES[0]
    assert clean_accuracy(Standard(Threshold()), [(x, y), (x, 1 - y)], seed=0, draws=2) == 0.5


def test_every_strength_is_an_option():
    for kind, (option, weakest, strongest) in STRENGTH.items():
        assert weakest != strongest
        assert dict(parse_defence(f"{kind}:{option}={strongest}").options)[option] == strongest
