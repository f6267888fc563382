"""Crossover: a landscape of many local optima whose best one is known, and what hopeless examples cost."""

import pytest
import torch

from attacks.attack import read_attack
from attacks.crossover import LONG, RUNS, Crossover, SmoothedReLU, most_gradients
from attacks.estimators import FreshDraws
from attacks.perturbation_budget import PerturbationBudget
from attacks.solver import solver_for
from tests.attacks.conftest import Deterministic

EPS, CLEAN, SIDE = 0.1, 0.5, 4
BEST = 1.5 * SIDE**2  # where every pixel is raised by eps


class Rugged(Deterministic):
    """Class 1 leads by a sum over pixels less ``needed``; each pixel has two local optima.

    In units of eps, a pixel at -1 contributes 1 and at +1 contributes 1.5. From a uniform start a gradient
    leads to the second one in 31% of cases, pixel by pixel. Classes 2 and 3 are never reached.
    """

    def __init__(self, needed):
        self.needed = needed

    def lead(self, x):
        u = (x - CLEAN).flatten(2) / EPS
        return torch.maximum(-u, 3 * (u - 0.5)).sum(-1) - self.needed

    def logits(self, x, draws):
        lead = self.lead(x)
        return torch.stack([torch.zeros_like(lead), lead, lead - 99, lead - 98], -1)


def attacked(oracle, attack, k=1, start=None):
    """The lead of class 1 at each of k results, and the attack's estimator."""
    x = torch.full((1, k, 1, SIDE, SIDE), CLEAN, dtype=torch.float64)
    estimator, budget = FreshDraws(oracle), PerturbationBudget("linf", EPS)
    y = torch.zeros(1, k, dtype=torch.int64)
    found = attack.perturb(x, y, estimator, budget, [torch.Generator().manual_seed(0)], start)
    assert budget.around(x).distance(found).max() <= 1 + 1e-9
    return oracle.lead(found)[0], estimator


@pytest.mark.long
def test_it_finds_the_best_of_many_optima_where_hundreds_of_starts_find_none_as_good():
    oracle = Rugged(BEST - 1)
    pgd = solver_for(read_attack("pgd-40+loss=margin+restarts=200"))
    assert attacked(oracle, pgd)[0] < -1
    lead, estimator = attacked(oracle, Crossover(20))
    assert lead == pytest.approx(1)
    assert most_gradients(10) < estimator.backwards <= most_gradients(20)


class Dormant(Rugged):
    """Class 1 wins by half a unit where all pixels are raised, through one ReLU that is off elsewhere."""

    def lead(self, x):
        u = (x - CLEAN).flatten(2) / EPS
        return torch.relu(u.sum(-1) - (SIDE**2 - 1)) - 0.5


def test_a_relu_that_is_off_is_switched_on_where_no_gradient_leads_there():
    pgd = solver_for(read_attack("pgd-40+loss=margin+restarts=200"))
    assert attacked(Dormant(0), pgd)[0] == pytest.approx(-0.5)
    assert attacked(Dormant(0), Crossover(1))[0] == pytest.approx(0.5)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_smoothed_relu_answers_as_it_is_and_has_the_slope_of_a_sigmoid(in_place):
    z = torch.tensor([[-3.0, 1.0], [-3.0, 1.0]], requires_grad=True)  # deviation 2
    with SmoothedReLU(torch.tensor([0.5, 5.0])):
        answer = torch.nn.functional.relu(z + 0, inplace=in_place)
    assert torch.equal(answer, z.clamp(min=0))
    answer.sum().backward()
    assert torch.allclose(z.grad, torch.sigmoid(z.detach() / torch.tensor([[1.0], [10.0]])))


def test_it_stops_at_the_first_wrong_answer():
    lead, estimator = attacked(Rugged(BEST - 2.1), Crossover(80, early_stop=True), k=2)
    assert bool((lead > 0).all()) and bool((lead < 2).all())
    assert estimator.backwards < 2 * most_gradients(20)


def test_progress_that_is_too_slow_ends_the_search():
    lead, estimator = attacked(Rugged(BEST + 1), Crossover(80, early_stop=True))
    assert lead == pytest.approx(-1)
    assert most_gradients(10) <= estimator.backwards < most_gradients(60)


def test_examples_whose_first_runs_end_alike_cost_these_runs_alone(linear):
    problem, budget = linear(batches=2, classes=5), PerturbationBudget("linf", 1e-3)
    estimator = FreshDraws(problem.oracle)
    found = Crossover(80, early_stop=True).perturb(
        problem.x, problem.y, estimator, budget, problem.generators
    )
    assert estimator.backwards == 8 * (1 + RUNS * LONG)
    assert bool((problem.oracle.logits(found, [None]).argmax(-1) == problem.y).all())


@pytest.mark.parametrize("options", [{"noise": 0.3}, {"mixing": 0.5}])
def test_on_random_or_coupled_targets_it_is_one_run_of_pgd(linear, options):
    problem = linear(batches=2, classes=5, **options)
    estimator = FreshDraws(problem.oracle)
    seen, answer = [], estimator.gradient
    estimator.gradient = lambda x, *args: seen.append(x) or answer(x, *args)
    ball = PerturbationBudget("l2", 0.1)
    found = Crossover(80).perturb(problem.x, problem.y, estimator, ball, problem.generators)
    assert estimator.backwards == problem.y.numel() * LONG
    assert torch.equal(found, seen[-1])  # losses under other draws, or beside other inputs, choose no point


def test_it_begins_where_another_attack_ended():
    best = torch.full((1, 1, 1, SIDE, SIDE), CLEAN + EPS, dtype=torch.float64)
    lead, estimator = attacked(Rugged(BEST - 1), Crossover(1, early_stop=True), start=best)
    assert lead == pytest.approx(1) and estimator.backwards == 1 + RUNS


def test_its_forecast_lies_between_the_first_runs_and_all_that_it_may_cost():
    name = read_attack("crossover-160")
    assert RUNS * LONG < name.queries(randomised=False)[1] < most_gradients(80)
    assert name.queries(randomised=True) == (LONG, LONG)
