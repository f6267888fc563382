"""Results of several starts, mixed: on a rugged loss, whatever its answers depend on."""

from math import pi

import pytest
import torch

from attacks.estimators import FreshDraws
from attacks.losses import margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Mosaic, restarted_pgd
from attacks.solver import Problem
from tests.attacks.conftest import Deterministic

BUDGET = PerturbationBudget("linf", 0.1)
K, SIDE = 24, 6


class Rugged(Deterministic):
    """Two logits, one of which is a sum of waves over the pixels; then random or tied to the batch."""

    def __init__(self, noise=0.0, coupling=0.0, harm=0.0):
        generator = torch.Generator().manual_seed(3)
        self.phase = 2 * pi * torch.rand(SIDE, SIDE, generator=generator)
        self.noise, self.coupling, self.harm = noise, coupling, harm
        self.randomised, self.coupled = noise > 0, coupling > 0 or harm > 0
        self.independent = not (self.randomised or self.coupled)

    def draws(self, index):
        return [index]

    def logits(self, x, draws):
        if self.noise:
            shape, seeds = x.shape[1:], [torch.Generator().manual_seed(draw) for draw in draws]
            x = x + self.noise * torch.stack([torch.randn(shape, generator=seed) for seed in seeds])
        x = x + self.coupling * (x.mean(1, keepdim=True) - x)
        waves = (16 * pi * x + self.phase).sin() + 0.5 * (38 * pi * x - self.phase).cos()
        score = waves.mean((2, 3, 4))
        score = score - self.harm * (score.sum(1, keepdim=True) - score)
        return torch.stack([torch.zeros_like(score), score], -1)


def problem_of(oracle, *, count=K):
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(1, count, 1, SIDE, SIDE, generator=generator) * 0.8 + 0.1
    y = torch.zeros(1, count, dtype=torch.long)
    return Problem(x, y, FreshDraws(oracle), BUDGET, [torch.Generator().manual_seed(1)])


def mean_loss(oracle, x, y):
    return margin_loss(oracle.logits(x, [10**6]), y).mean().item()


@pytest.mark.parametrize(
    "oracle",
    [Rugged(), Rugged(noise=0.002), Rugged(coupling=0.01)],
    ids=["alone", "random", "tied to the batch"],
)
def test_four_mixed_starts_find_more_than_the_best_of_sixteen(oracle):
    mixed, best = problem_of(oracle), problem_of(oracle)
    four = Mosaic(4).solve(mixed)
    sixteen = restarted_pgd(25, None, margin_loss, 1.0, 16, early_stop=False).solve(best)
    assert mean_loss(oracle, four, mixed.y) > mean_loss(oracle, sixteen, best.y)
    assert mixed.estimator.backwards == 4 * 25 * K < best.estimator.backwards
    assert ((four - mixed.x).abs() <= 0.1 + 1e-6).all()


def test_twice_the_starts_go_on_from_the_same_ones_and_find_more():
    oracle = Rugged(coupling=0.01)
    losses = [
        mean_loss(oracle, Mosaic(starts).solve(problem_of(oracle)), problem_of(oracle).y)
        for starts in (2, 4, 8)
    ]
    assert losses == sorted(losses) and losses[-1] > losses[0] + 0.05


def test_a_batch_is_never_worse_for_what_each_of_its_examples_preferred():
    """Every input's score takes from those of the others: what is good for one harms the batch."""
    oracle = Rugged(harm=1.0)
    first, mixed = (Mosaic(starts).solve(problem_of(oracle)) for starts in (1, 4))
    y = problem_of(oracle).y
    assert mean_loss(oracle, mixed, y) >= mean_loss(oracle, first, y)


def test_stopping_early_costs_less_and_keeps_what_fell():
    oracle = Rugged()
    whole, short = problem_of(oracle), problem_of(oracle)
    Mosaic(4).solve(whole)
    x = Mosaic(4, early_stop=True).solve(short)
    assert short.estimator.backwards < whole.estimator.backwards
    first = Mosaic(1, early_stop=True).solve(problem_of(oracle))
    fell = (oracle.logits(first, [0]).argmax(-1) != short.y)[0]
    assert fell.any() and torch.equal(x[0, fell], first[0, fell])
