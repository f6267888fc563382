"""The league's counter: what an attack is charged, and what counts as broken."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
EPS = 0.1


@pytest.fixture(scope="module")
def counter():
    spec = importlib.util.spec_from_file_location("league_counter", BENCHMARKS / "league_counter.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["league_counter"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["league_counter"]


class Mean(nn.Module):
    """Class 1 where the mean pixel is above 0.5."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)


@pytest.fixture
def counted(counter):
    """Six images of class 1, the last of which is answered wrongly as it is."""
    x = torch.full((6, 1, 4, 4), 0.55) + 0.02 * torch.rand(
        6, 1, 4, 4, generator=torch.Generator().manual_seed(0)
    )
    x[5] -= 0.3
    return counter.Counted(Mean(), x, torch.ones(6, dtype=torch.long), EPS, budget=10)


def test_an_image_costs_one_forward_and_one_more_for_its_gradient(counted):
    counted(counted.x)
    assert counted.cost.tolist() == [1] * 6
    leaf = counted.x.clone().requires_grad_()
    counted(leaf).sum().backward()
    assert counted.cost.tolist() == [3] * 6
    assert counted.broken_at[5] == 0 and not counted.left(10)[5]


def test_survivors_in_another_order_and_copies_are_charged_to_their_examples(counted):
    rows = torch.tensor([4, 1, 1, 3])
    counted(counted.x[rows] - 0.01)
    assert counted.cost.tolist() == [0, 2, 0, 1, 1, 0]
    assert counted.left(10).tolist() == [True] * 5 + [False]


def test_only_what_is_inside_ball_and_box_breaks_an_example_and_its_first_time_counts(counted):
    far = counted.x.clone()
    far[0] -= 1.5 * EPS
    far[1] -= 0.9 * EPS
    counted(far)
    counted(counted.x)
    counted(far)
    assert counted.broken_at[1] == 1 and counted.left(0)[1] and not counted.left(1)[1]
    assert counted.left(10)[[0, 2]].all()


def test_an_attack_ends_when_all_that_stand_have_used_up_their_budget(counter, counted):
    for _ in range(10):
        counted(counted.x)
    with pytest.raises(counter.Spent):
        counted(counted.x)
    assert counted.cost.max() == 10
