"""The switch attack: finds what a jump along a smooth move hides, in bounded cost, and only then climbs."""

import pytest
import torch

from attacks.attack import read_attack
from attacks.estimators import FreshDraws
from attacks.perturbation_budget import PerturbationBudget
from attacks.solver import solver_for
from attacks.switch import Switch, _moved
from robustbench_coded.defences.per_batch import per_batch
from robustbench_coded.evaluation.execution.target import Target
from zoo.registry import ZOO

SWITCHED = [name for name, entry in ZOO.items() if entry.family == "switched" and entry.broken]


def left_by(name, attack, norm="linf", eps=0.1):
    """The share of 32 images that a defence of the zoo still answers rightly, and the attack's estimator."""
    known = ZOO[name].load(32)
    target, budget = Target(per_batch(known.defence), 32, 0, [0]), PerturbationBudget(norm, eps)
    estimator, x, y = FreshDraws(target), known.x[None], known.y[None]
    found = attack.perturb(x, y, estimator, budget, [torch.Generator().manual_seed(0)])
    assert budget.around(x).distance(found).max() <= 1 + 1e-5 and found.min() >= 0 and found.max() <= 1
    answers = target.logits(found, target.draws(0)).argmax(-1)
    return float(((answers == y) | (answers == getattr(target, "reject", -1))).float().mean()), estimator


@pytest.mark.parametrize(("norm", "eps", "most"), [("linf", 0.1, 1), ("l2", 0.8, 1), ("l1", 6.4, 4)])
@pytest.mark.parametrize("name", SWITCHED)
def test_no_switch_of_the_zoo_stands(name, norm, eps, most):
    """All have 64 pixels, so that the balls of l2 and l1 hold that of linf."""
    known = ZOO[name].load(32)
    assert known.clean.low == 1 and known.truth("batch/unknown").high == 0 and known.x[0].numel() == 64
    if norm == "linf":
        assert left_by(name, solver_for(read_attack("pgd-40+loss=margin+restarts=4")))[0] > 0.9
    assert left_by(name, solver_for(read_attack("switch-20")), norm, eps)[0] <= most / 32


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 1.5), ("l1", 6.0)])
def test_a_pattern_moves_all_channels_to_the_edge_of_the_ball(norm, eps):
    x, pattern = torch.full((1, 1, 3, 8, 8), 0.5), torch.ones(1, 1, 1, 8, 8)
    ball = PerturbationBudget(norm, eps).around(x)
    assert ball.distance(_moved(x, pattern, 0.5, ball)).item() == pytest.approx(0.5)


def test_a_switch_between_two_robust_models_is_no_weakness():
    assert ZOO["gate-wide"].load(32).truth("batch/unknown").low == 1
    assert left_by("gate-wide", solver_for(read_attack("switch-20")))[0] == 1


def test_where_nothing_jumps_it_costs_a_scan_alone(linear):
    problem = linear(batches=2, classes=3)
    estimator = FreshDraws(problem.oracle)
    budget = PerturbationBudget("l2", 0.01)
    Switch(20).perturb(problem.x, problem.y, estimator, budget, problem.generators)
    n = problem.y.numel()
    assert estimator.backwards == 5 * n
    assert estimator.forwards < 270 * n
