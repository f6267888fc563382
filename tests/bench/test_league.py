"""The counters of the league: what an attack is charged, what counts as broken, and what is left."""

import pytest
import torch
from torch import nn

from benchmarks.peers import league_counter, league_random

EPS = 0.1


@pytest.fixture
def counter():
    return league_counter


class Mean(nn.Module):
    """Class 1 where the mean pixel is above 0.5."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)


def just_above_the_boundary(n):
    return 0.55 + 0.02 * torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def counted(counter):
    """Six images of class 1, the last of which is answered wrongly as it is."""
    x = just_above_the_boundary(6)
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
    assert counted.spent


class Coin:
    """Answers as Mean does where its coin, True with probability 1 / 4, falls; else always 1."""

    name, randomised, batch_dependent, base = "coin", True, False, None

    def sample(self, generator, k):
        return bool(torch.rand((), generator=generator) < 0.25)

    def logits(self, x, draw):
        return Mean()(x) if draw else Mean()(torch.ones_like(x))


@pytest.fixture
def drawn():
    """Four images of class 1, which a move of eps takes across Mean's boundary."""
    x = just_above_the_boundary(4)
    return league_random.CountedDefence(Coin(), x, torch.ones(4, dtype=torch.long), EPS, budget=10)


def test_what_is_left_of_a_random_defence_is_measured_under_draws_of_its_own(drawn):
    assert drawn.right(drawn.x, draws=50).all()
    at = drawn.right(drawn.x - 0.9 * EPS, draws=4000)
    assert at.shape == (4000, 4)
    assert (at.double().mean(0) - 0.75).abs().max() < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert torch.equal(at, drawn.right(drawn.x - 0.9 * EPS, draws=4000)), "other draws for another attack"
    assert drawn.cost.eq(0).all(), "it was charged to the attack"


def test_queries_of_a_module_and_of_a_defence_with_fixed_draws_cost_the_same(drawn):
    drawn(drawn.x)
    assert drawn.cost.tolist() == [1] * 4
    leaf = drawn.x.clone().requires_grad_()
    drawn.logits(leaf, True).sum().backward()
    assert drawn.cost.tolist() == [3] * 4
    drawn(drawn.x.repeat(3, 1, 1, 1) - 0.01)
    assert drawn.cost.tolist() == [6] * 4


def test_an_attack_of_a_random_defence_ends_when_those_that_it_asks_about_have_used_up_their_budget(
    counter, drawn
):
    drawn(drawn.x)
    for _ in range(9):
        drawn(drawn.x[1:3])
    with pytest.raises(counter.Spent):
        drawn(drawn.x[1:3])
    assert drawn.cost.tolist() == [1, 10, 10, 1]
