"""Draws fooled together, on random ensembles of linear members whose worst case is known."""

import pytest
import torch

from attacks.estimators import FreshDraws
from attacks.joint_draws import JointDraws
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Pgd
from tests.attacks.conftest import Deterministic
from zoo.linear import pattern

EPS = 0.05
FOOLED_TOGETHER = 0.45 * EPS  # three orthogonal patterns: each gets half of a move that serves them all
OUT_OF_REACH = 1.5 * EPS


class RandomMember(Deterministic):
    """One of five linear members for each batch: three of ``FOOLED_TOGETHER``, one out of reach and one that
    is always wrong; 20% of the answers can be kept.

    Args:
        gains: scales of the members' logits, which change no answer.
    """

    randomised, independent = True, False

    def __init__(self, gains: tuple[float, ...], batches: int):
        self.gains, self.batches = gains, batches

    def draws(self, index: int) -> list[int]:
        return [(index + batch) % 5 for batch in range(self.batches)]

    def logits(self, x: torch.Tensor, draws: list[int]) -> torch.Tensor:
        return torch.stack([self.member(number, batch) for number, batch in zip(draws, x, strict=True)])

    def member(self, number: int, x: torch.Tensor) -> torch.Tensor:
        sign = -1 if number == 4 else 1
        score = self.gains[number] * sign * ((x - 0.5) * pattern(1 + min(number, 3))).flatten(1).mean(1)
        return torch.stack([-score / 2, score / 2], -1)


def planted(batches: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.randint(2, (batches, k), generator=torch.Generator().manual_seed(0))
    margins = torch.tensor([FOOLED_TOGETHER] * 3 + [OUT_OF_REACH])
    along = (margins.view(4, 1, 1, 1) * torch.stack([pattern(1 + i) for i in range(4)])).sum(0)
    return 0.5 + (2 * y - 1).view(batches, k, 1, 1, 1) * along, y


def left(defence: RandomMember, x: torch.Tensor, y: torch.Tensor) -> float:
    """The share of right answers, over the members."""
    answers = [defence.member(number, x.flatten(0, 1)).argmax(-1) for number in range(5)]
    return float((torch.stack(answers) == y.flatten()).float().mean())


@pytest.mark.parametrize("gains", [(30.0,) * 5, (30.0, 3000.0, 300.0, 30.0, 3000.0)], ids=["alike", "scaled"])
def test_leaves_no_more_than_can_be_kept(gains):
    x, y = planted(4, 16)
    defence, budget = RandomMember(gains, 4), PerturbationBudget("linf", EPS)
    generators = [torch.Generator().manual_seed(i) for i in range(4)]
    assert left(defence, x, y) == pytest.approx(0.8)
    adversarial = JointDraws(97).perturb(x, y, FreshDraws(defence), budget, generators)
    assert left(defence, adversarial, y) == pytest.approx(0.2)
    assert bool(budget.around(x).distance(adversarial).le(1 + 1e-5).all())
    averaged = Pgd(20).perturb(x, y, FreshDraws(defence, draws=10), budget, generators)
    assert left(defence, averaged, y) > 0.7


def test_asks_each_held_draw_for_at_most_as_many_gradients_as_it_has_steps():
    x, y = planted(2, 4)
    estimator = FreshDraws(RandomMember((30.0,) * 5, 2))
    JointDraws(15).perturb(x, y, estimator, PerturbationBudget("linf", EPS), [torch.Generator()] * 2)
    assert 7 * 16 * y.numel() < estimator.backwards <= 15 * 16 * y.numel()
