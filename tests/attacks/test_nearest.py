"""Minimal-norm attacks on linear models, whose nearest wrong answers are known."""

import pytest
import torch

from attacks.minimum_norm import Fab, Fmn
from attacks.perturbation_budget import PerturbationBudget
from attacks.sparse import SigmaZero

pytestmark = pytest.mark.long

ATTACKS = [*((Fmn(300), "l2", 2), (Fmn(300), "linf", 1)), *((Fab(30), "l2", 2), (Fab(30), "linf", 1))]
ALL = pytest.mark.parametrize("attack", [Fmn(20), Fab(20)])


@pytest.fixture
def problem(linear):
    """Inputs in the middle of the box, so that nothing is cut off on the way to the boundary."""
    problem = linear(batches=2, k=4)
    problem.x = 0.35 + 0.3 * problem.x
    problem.y = problem.oracle.logits(problem.x, problem.oracle.draws(0)).argmax(-1)
    return problem


def answers(problem, attack, budget):
    x = problem.attacked(attack, budget)
    return x, problem.oracle.logits(x, [None]).argmax(-1)


@pytest.mark.parametrize(("attack", "norm", "dual"), ATTACKS)
def test_finds_the_nearest_wrong_answer_within_3_percent(problem, attack, norm, dual):
    # Each slot has the radius of its own boundary: 3% more in the first batch, 1% less in the second.
    budget = PerturbationBudget(norm, 1.0, eps_scale=torch.tensor([[1.03], [0.99]]) * problem.nearest(dual))
    _, label = answers(problem, attack, budget)
    stands = label == problem.y
    assert not stands[0].any() and stands[1].all()


@pytest.mark.parametrize(("attack", "norm", "dual"), ATTACKS)
def test_one_run_tells_for_every_eps(problem, attack, norm, dual):
    """A large eps does not change the point; a small one is that point, projected."""
    found, label = answers(problem, attack, PerturbationBudget(norm, 1.0 if norm == "linf" else 8.0))
    assert bool((label != problem.y).all())
    budget = PerturbationBudget(norm, 0.02)
    smaller, _ = answers(problem, attack, budget)
    torch.testing.assert_close(smaller, budget.around(problem.x).project_(found.clone()))


@ALL
def test_slots_that_are_held_stay(linear, attack):
    problem = linear(batches=1, k=3, mixing=1.0)
    scale = torch.tensor([[1.0, 0.0, 0.0]])
    asked = []
    logits = problem.oracle.logits
    problem.oracle.logits = lambda x, draws: (asked.append(x.detach()), logits(x, draws))[1]
    x, _ = answers(problem, attack, PerturbationBudget("l2", 0.5, eps_scale=scale))
    for points in (*asked, x):
        torch.testing.assert_close(points[:, 1:], problem.x[:, 1:])
    assert not torch.equal(x[:, 0], problem.x[:, 0])


def test_in_l1_the_nearest_wrong_answer_moves_the_steepest_values(problem):
    """A linear model's: the steepest value as far as the box has room, then the next, up to the boundary."""
    logits = problem.oracle.logits(problem.x, [None])
    gap = (logits[..., 0] - logits[..., 1]).abs()
    slope = problem.slope.flatten(2)
    room = torch.where(slope < 0, problem.x.flatten(2), 1 - problem.x.flatten(2))  # on the way there
    slope, order = slope.abs().sort(-1, descending=True)
    room = room.gather(-1, order)
    gains = (slope * room).cumsum(-1)
    before = torch.cat([torch.zeros_like(gains[..., :1]), gains[..., :-1]], -1)
    nearest = ((gap[..., None] - before).clamp_min(0) / slope).minimum(room).sum(-1)
    for factor, stands in ((1.05, False), (0.99, True)):
        budget = PerturbationBudget("l1", 1.0, eps_scale=factor * nearest)
        _, label = answers(problem, Fab(30), budget)
        assert bool(((label == problem.y) == stands).all())


def test_fab_aims_at_the_nearest_of_ten_classes_not_at_the_likeliest(linear):
    problem = linear(batches=1, k=40, classes=10, shape=(1, 4, 6))
    problem.x = 0.35 + 0.3 * problem.x  # the box cuts nothing off
    problem.y = problem.oracle.logits(problem.x, [None]).argmax(-1)
    logits, weights = problem.oracle.logits(problem.x, [None])[0], problem.oracle.weights
    gap = logits.gather(1, problem.y[0, :, None]) - logits
    distance = (gap / (weights[problem.y[0]][:, None] - weights).abs().sum(-1)).nan_to_num(9)
    likeliest = gap.masked_fill(gap == 0, torch.inf).argmin(1)
    assert bool((likeliest != distance.argmin(1)).any()) and distance.amin(1).max() < 0.35
    budget = PerturbationBudget("linf", 1.0)
    found, label = answers(problem, Fab(50), budget)
    assert bool((label != problem.y).all())
    assert bool((budget.around(problem.x).distance(found)[0] <= 1.01 * distance.amin(1)).all())


@pytest.mark.parametrize("norm", ["l2", "linf", "l1", "l0"])
def test_fmn_walks_on_until_it_finds_a_wrong_answer(linear, norm):
    """Inputs anywhere in the box, which cuts off steps, and ten classes, of which another comes closer."""
    problem = linear(batches=1, k=40, classes=10, shape=(1, 4, 6))
    problem.y = problem.oracle.logits(problem.x, [None]).argmax(-1)
    whole = PerturbationBudget(norm, {"linf": 1.0, "l2": 5.0, "l1": 24.0, "l0": 24}[norm])
    found, label = answers(problem, Fmn(100), whole)
    assert bool((label != problem.y).all())
    if norm == "l2":
        other, _ = answers(problem, Fab(100), whole)
        ours, fabs = ((x - problem.x).flatten(2).norm(dim=-1).mean() for x in (found, other))
        assert ours <= 1.02 * fabs


SCALED = [
    *((Fab(60), norm) for norm in ("l2", "l1")),
    (Fmn(60), "l2"),
    (Fmn(60), "l1"),
    (Fmn(60), "l0"),
    (SigmaZero(60), "l0"),
]


@pytest.mark.parametrize(("attack", "norm"), SCALED, ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_logits_changes_nothing(linear, attack, norm, scale):
    problem = linear(batches=1, k=20, classes=10, dtype=torch.float32)
    problem.y = problem.oracle.logits(problem.x, [None]).argmax(-1)
    whole = PerturbationBudget(norm, {"l0": 20, "l1": 60.0, "l2": 8.0}[norm])
    found, _ = answers(problem, attack, whole)
    problem.oracle.weights = scale * problem.oracle.weights
    scaled, label = answers(problem, attack, whole)
    assert bool((label != problem.y).all())
    one, other = (float(whole.around(problem.x).distance(x).mean()) for x in (found, scaled))
    assert other == pytest.approx(one, rel=0.02)
