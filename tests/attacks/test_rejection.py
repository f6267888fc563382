"""Rejected inputs count as right ones, for losses and for counting."""

import pytest
import torch

from attacks.attack import read_attack
from attacks.estimators import Bpda, FreshDraws, estimator_for
from attacks.losses import margin_loss
from attacks.oracle import fold_rejection
from attacks.perturbation_budget import PerturbationBudget
from attacks.solver import solver_for
from tests.attacks.conftest import Deterministic


@pytest.mark.parametrize("reject", [0, 2, 4])
def test_the_largest_folded_logit_is_wrong_where_the_answer_is_neither_right_nor_a_rejection(reject):
    generator = torch.Generator().manual_seed(reject)
    logits = torch.randn(500, 5, generator=generator)
    others = torch.tensor([c for c in range(5) if c != reject])
    y = others[torch.randint(4, (500,), generator=generator)]
    answer = logits.argmax(-1)
    fooled = (answer != y) & (answer != reject)
    folded = fold_rejection(logits, y, reject)
    assert torch.equal(folded.argmax(-1) != y, fooled)
    assert 0.4 < fooled.double().mean() < 0.8
    assert torch.equal(fold_rejection(logits, y, None), logits)


def test_the_goals_of_a_targeted_attack_begin_with_the_true_class():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([[0, 1, 3]] * 2)
    goals = torch.stack([y, (y + 1) % 4], -1)
    assert torch.equal(fold_rejection(logits, goals, 2), fold_rejection(logits, y, 2))


@pytest.mark.parametrize("name", ["apgd-mt-20", "apgd-t-20", "pgd-10", "square-50"])
def test_every_kind_of_attack_takes_a_target_that_rejects(name):
    x, y = torch.full((1, 2, 1, 1, 1), 0.45), torch.zeros(1, 2, dtype=torch.int64)
    generators = [torch.Generator().manual_seed(0)]
    parsed = read_attack(name)
    estimator = estimator_for(parsed, Rejecting())
    attack = solver_for(parsed, early_stop=False)
    found = attack.perturb(x, y, estimator, PerturbationBudget("linf", 0.3), generators, None)
    assert (found > 0.6).all()  # past the band from 0.4 to 0.6, where the answer is a rejection


class Rejecting(Deterministic):
    """Class 1 where the only pixel exceeds 0.5, rejection between 0.4 and 0.6."""

    reject = 2

    def logits(self, x, draws):
        score = x.flatten(2)[..., 0] - 0.5
        return torch.stack([-score, score, torch.full_like(score, 0.1)], -1)


def test_an_attack_is_led_past_rejection():
    """Of class 0, just rejected: nothing is won before the pixel is above 0.6."""
    x, y = torch.tensor([0.55, 0.65]).view(1, 2, 1, 1, 1), torch.zeros(1, 2, dtype=torch.int64)
    found = FreshDraws(Rejecting()).gradient(x, y, margin_loss)
    assert found.loss[0, 0] < 0 < found.loss[0, 1]
    assert (found.grad > 0).all()
    oblivious = Rejecting()
    oblivious.reject = None
    assert FreshDraws(oblivious).gradient(x, y, margin_loss).loss[0, 0] > 0


def test_a_base_without_the_reject_class_lends_its_gradient():
    def base(x):
        return torch.stack([-x.flatten(1)[:, 0], x.flatten(1)[:, 0]], -1)

    x, y = torch.full((1, 2, 1, 1, 1), 0.65), torch.zeros(1, 2, dtype=torch.int64)
    assert (Bpda(Rejecting(), base).gradient(x, y, margin_loss).grad > 0).all()
