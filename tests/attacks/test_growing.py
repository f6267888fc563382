"""Growing balls: gates that notice how far an input was moved, wherever they begin to."""

import pytest
import torch

from attacks.estimators import FreshDraws
from attacks.losses import margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Pgd
from attacks.subset_ascent import Growing
from tests.attacks.test_parts import EPS, right_after


def beyond(share):
    return lambda change: change.abs().amax(-1) > share * EPS


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("share", [0.35, 0.5, 0.8])
def test_it_stays_inside_of_what_a_gate_allows(share, early_stop):
    """A third of all values moved by eps would do, and so does every value moved by a third of it."""
    assert right_after(Pgd(100), beyond(share)) == 6
    assert right_after(Growing(48, early_stop=early_stop), beyond(share)) == 0


def test_nothing_is_found_where_too_little_is_allowed():
    assert right_after(Growing(48), beyond(0.2)) == 6


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_without_a_gate_it_reaches_the_edge(linear, norm):
    problem = linear(batches=2, k=3)
    budget = PerturbationBudget(norm, 0.05)
    estimator = FreshDraws(problem.oracle)
    found = Growing(48).perturb(problem.x, problem.y, estimator, budget, problem.generators)
    distance = budget.around(problem.x).distance(found)
    assert bool((distance <= 1 + 1e-9).all()) and bool((distance > 0.95).all())
    assert estimator.forwards == estimator.backwards == 48 * 6
    if norm == "linf":
        best = budget.around(problem.x).project_(problem.x + 0.05 * problem.slope.sign())
        losses = [margin_loss(problem.oracle.logits(x, [None]), problem.y) for x in (found, best)]
        torch.testing.assert_close(*losses, rtol=0.01, atol=0)


def test_slots_keep_their_own_radius(linear):
    problem = linear(batches=1, k=3)
    scale = torch.tensor([[0.0, 1.0, 2.0]])
    budget = PerturbationBudget("linf", 0.05, eps_scale=scale)
    attack, estimator = Growing(48), FreshDraws(problem.oracle)
    found = attack.perturb(problem.x, problem.y, estimator, budget, problem.generators)
    moved = (found - problem.x).abs().flatten(2).amax(2)
    torch.testing.assert_close(moved, 0.05 * scale.to(moved), rtol=0.05, atol=1e-9)
