"""Pairs of honest defences and broken twins: what is certified holds, and what is fragile falls."""

import pytest
import torch

from benchmarks.errors.twin_networks import Network, perturbed, trained
from benchmarks.errors.twins import PAIRS, make
from robustbench_coded.data.named_sets import load_digits

EPS = 0.1


@pytest.fixture(scope="module")
def digits():
    return load_digits("test").batch(range(128))


@pytest.mark.parametrize(("rounded", "levels"), [(0.0, 0), (0.1, 0), (0.0, 16)])
def test_no_point_of_the_ball_takes_away_what_intervals_certify(digits, rounded, levels):
    x, y = digits
    plain = trained(3, EPS, fragile=False, widths=(64,))
    model = Network((64,), rounded, levels)
    model.load_state_dict(plain.state_dict())
    certified = model.certified(x, y, EPS)
    assert 0.4 < certified.float().mean() < 1
    generator = torch.Generator().manual_seed(0)
    corners = [x + EPS * (torch.rand(x.shape, generator=generator) - 0.5).sign() for _ in range(20)]
    found = perturbed([plain], x, y, EPS)
    for at in (*corners, found):
        assert bool((model(at.clamp(0, 1)).argmax(1) == y)[certified].all())
    assert not bool((model(found).argmax(1) == y).all())


def test_a_fragile_network_of_the_same_shape_falls(digits):
    x, y = digits
    model = trained(3, EPS, fragile=True, widths=(64,))
    assert (model(x).argmax(1) == y).float().mean() > 0.9
    assert (model(perturbed([model], x, y, EPS)).argmax(1) == y).float().mean() < 0.05


@pytest.mark.long
@pytest.mark.parametrize("kind", PAIRS)
def test_both_of_a_pair_look_alike_and_their_truths_do_not(kind):
    (honest, good), (twin, bad) = (make(kind, 7, fragile=fragile) for fragile in (False, True))
    assert (honest.norm, honest.eps) == (twin.norm, twin.eps)
    assert good.defence.randomised == bad.defence.randomised
    assert good.truth("batch/unknown").low > 0.4 > 0.25 > bad.truth("batch/unknown").high
