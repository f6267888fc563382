"""Taught networks against targets that answer with a hard label and have no gradient at all."""

import pytest
import torch
from torch.nn import functional

from attacks import surrogate
from attacks.estimators import FreshDraws
from attacks.losses import margin_loss
from attacks.naming import read_attack
from attacks.perturbation_budget import PerturbationBudget
from attacks.score_based import RandomSearch
from attacks.solving import estimator_for, solver_for
from attacks.surrogate import QUERIES, _Memory, _Network
from tests.attacks.conftest import Deterministic

pytestmark = pytest.mark.long

EPS = 0.1
SHAPE = (2, 24, 1, 6, 6)


class Hard(Deterministic):
    """One-hot answers of a linear model of two classes; flips a share of them in every draw."""

    def __init__(self, w, flips=0.0):
        self.w, self.flips = w, flips
        self.randomised, self.independent = flips > 0, flips == 0

    def draws(self, index):
        return [index] * SHAPE[0]

    def logits(self, x, draws):
        assert not torch.is_grad_enabled()
        sides = (x - 0.5).flatten(2) @ self.w > 0
        if self.randomised:
            generator = torch.Generator().manual_seed(draws[0])
            sides ^= torch.rand(sides.shape, generator=generator) < self.flips
        return functional.one_hot(sides.long(), 2).float()


@pytest.fixture(autouse=True)
def taught_briefly(monkeypatch):
    """A sixth of the training: enough for targets as simple as these."""
    monkeypatch.setattr(surrogate, "STEPS", 40)
    monkeypatch.setattr(surrogate, "BATCH", 64)


@pytest.fixture
def w():
    return torch.randn(36, generator=torch.Generator().manual_seed(3)).sign() / 36


@pytest.fixture
def data(w):
    """Inputs at 0.2 to 0.7 eps from the boundary, with a texture along it."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, SHAPE[:2], generator=generator)
    margin = (2 * y - 1) * EPS * (0.2 + 0.5 * torch.rand(SHAPE[:2], generator=generator))
    texture = 0.1 * torch.randn(*SHAPE[:2], 36, generator=generator)
    texture = texture - (texture @ w)[..., None] * w.sign()
    x = (0.5 + texture + margin[..., None] * w.sign()).clamp(0, 1).view(SHAPE)
    return x, ((x - 0.5).flatten(2) @ w > 0).long()


def generators():
    return [torch.Generator().manual_seed(g) for g in range(SHAPE[0])]


def attacked(oracle, data, *, base=None):
    name = read_attack("surrogate-pgd-20")
    estimator = estimator_for(name, oracle, base=base)
    attack = solver_for(name, early_stop=True)
    return attack.perturb(*data, estimator, PerturbationBudget("linf", EPS), generators()), estimator


def standing(w, x, y):
    return (((x - 0.5).flatten(2) @ w > 0).long() == y).float().mean().item()


def test_it_breaks_a_hard_label_that_a_search_of_as_many_queries_leaves_standing(w, data):
    x, y = data
    before = torch.get_rng_state()
    found, estimator = attacked(Hard(w), data)
    assert torch.equal(before, torch.get_rng_state())
    assert standing(w, x, y) == 1
    assert standing(w, found, y) <= 0.02
    assert ((found - x).abs().max() <= EPS + 1e-6) & (found >= 0).all() & (found <= 1).all()
    assert estimator.backwards == 0
    assert estimator.forwards == QUERIES * y.numel()
    searched = RandomSearch(QUERIES).perturb(
        x, y, FreshDraws(Hard(w)), PerturbationBudget("linf", EPS), generators()
    )
    assert standing(w, searched, y) >= 0.3


def test_it_learns_the_mean_answer_of_a_randomised_target(w, data):
    found, estimator = attacked(Hard(w, flips=0.2), data)
    assert standing(w, found, data[1]) <= 0.1
    assert estimator.forwards == 4 * QUERIES * data[1].numel()


def test_the_network_begins_as_the_base_model_and_a_part_of_its_own():
    def base(x):
        return x.flatten(1)[:, :3]

    network = _Network(torch.Size((1, 6, 6)), 4, base, torch.Generator().manual_seed(0))
    x = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    extra = network(x) - network.answer(x, None)
    torch.testing.assert_close(extra[:, :3], base(x))
    assert (extra[:, 3] == 0).all()  # the base model knows no answer to reject with


def test_what_is_worse_on_the_target_is_not_kept(w, data, monkeypatch):
    """A base model that points the wrong way, and a network that learns no better."""

    def lying(x):
        score = 50 * (x - 0.5).flatten(1) @ w
        return torch.stack([score, -score], 1)

    x, y = data
    monkeypatch.setattr(_Memory, "teach", lambda memory, network, generator: None)
    found, _ = attacked(Hard(w), data, base=lying)
    at = FreshDraws(Hard(w)).compare([x, found], y, margin_loss)
    assert (at[1].loss >= at[0].loss).all()
