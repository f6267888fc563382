"""Attacks by queries: Square, and random search."""

import math

import pytest
import torch

from attacks import score_based
from attacks.estimators import FreshDraws, Transfer
from attacks.losses import margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.score_based import RandomSearch, Square
from tests.attacks.conftest import small_network

BUDGET = PerturbationBudget("linf", 0.1)


def loss_of(problem, x):
    return margin_loss(problem.oracle.logits(x, problem.oracle.draws(0)), problem.y)


def test_linear_model_comes_close_to_the_closed_form_optimum(linear):
    problem = linear(batches=2, shape=(2, 3, 4))
    best = problem.x + (0.1 * problem.slope.sign()).clamp(-problem.x, 1 - problem.x)
    x = problem.attacked(Square(800), BUDGET)
    gain = loss_of(problem, x) - loss_of(problem, problem.x)
    most = loss_of(problem, best) - loss_of(problem, problem.x)
    assert (gain > 0.98 * most).all() and (gain <= most + 1e-9).all()


def test_l2_search_raises_a_linear_loss_towards_its_optimum(linear):
    problem = linear(batches=2, shape=(2, 4, 4))
    x0 = 0.4 + 0.2 * problem.x  # the box is far
    budget = PerturbationBudget("l2", 0.3)
    most = 0.3 * problem.slope.flatten(2).norm(dim=2)
    gains = [
        loss_of(
            problem,
            Square(steps).perturb(x0, problem.y, FreshDraws(problem.oracle), budget, problem.generators),
        )
        - loss_of(problem, x0)
        for steps in (1, 300)
    ]
    # Bumps of at least 3 x 3 cannot follow a random slope to its optimum.
    assert (gains[1] > 0.5 * most).all() and (gains[1] <= most * (1 + 1e-9)).all()
    assert gains[1].mean() > 2 * gains[0].mean()


def test_every_query_is_one_batch_and_no_gradient_is_asked(linear):
    problem = linear(batches=2)
    estimator = FreshDraws(problem.oracle)
    Square(50).perturb(problem.x, problem.y, estimator, BUDGET, problem.generators)
    assert (estimator.forwards, estimator.backwards) == (50 * 8, 0)


def test_an_example_is_dropped_after_its_first_wrong_answer(linear):
    problem = linear(batches=2, k=32, classes=6)
    budget, steps = PerturbationBudget("linf", 0.05), 20

    def perturb(queries, early_stop):
        estimator = FreshDraws(problem.oracle)
        attack = Square(queries, early_stop=early_stop)
        return attack.perturb(problem.x, problem.y, estimator, budget, problem.generators), estimator.forwards

    # The margin of the kept point never falls, so one wrong answer is followed by others.
    wrong = torch.stack([loss_of(problem, perturb(n, False)[0]) > 0 for n in range(1, steps + 1)])
    queries = torch.where(wrong.any(0), wrong.int().argmax(0) + 1, steps)
    x, cost = perturb(steps, True)
    assert cost == queries.sum() and len(queries.unique()) > 3
    assert torch.equal(loss_of(problem, x) > 0, wrong[-1])


@pytest.mark.parametrize("steps", [60, 61])
def test_a_candidate_is_compared_under_the_same_fresh_draws(linear, steps):
    problem = linear(batches=2, noise=1.0)
    estimator = FreshDraws(problem.oracle, draws=3)
    Square(steps).perturb(problem.x, problem.y, estimator, BUDGET, problem.generators)
    asked = problem.oracle.asked
    assert len(asked) == 60 and asked[0::2] == asked[1::2]
    drawn = [draw for forward in asked[0::2] for draw in forward]
    assert len(set(drawn)) == len(drawn) == 30 * 3 * 2


def test_noise_as_large_as_the_signal_does_not_stop_the_search(linear):
    problem = linear(k=16, shape=(2, 3, 4), noise=0.5)
    scored = [problem.oracle.draws(index) for index in range(10_000, 10_050)]

    def mean_loss(x):
        return torch.stack([margin_loss(problem.oracle.logits(x, draw), problem.y) for draw in scored]).mean()

    x = problem.attacked(Square(800), BUDGET, draws=2)
    best = problem.x + (0.1 * problem.slope.sign()).clamp(-problem.x, 1 - problem.x)
    clean = mean_loss(problem.x)
    assert mean_loss(x) - clean > 0.8 * (mean_loss(best) - clean)


def test_squares_shrink_as_in_the_paper():
    x = torch.zeros(1, 1, 3, 32, 32)
    sides = {query: score_based._side(query, 10_000, x) for query in (0, 10, 11, 51, 201, 9999)}
    want = {
        query: round(math.sqrt(share) * 32)
        for query, share in zip(sides, (0.8, 0.8, 0.4, 0.2, 0.1, 0.8 / 512))
    }
    assert sides == want
    assert score_based._side(101, 1000, x) == score_based._side(1010, 10_000, x)  # the schedule stretches


@pytest.mark.long
def test_robust_accuracy_is_pyautoattacks():
    """Over a network whose few broken examples decide: both searches get about as far on the same budget."""
    reference_module = pytest.importorskip("pyautoattack.square")
    model, x, y = small_network(200, 6, side=8)
    for norm, eps in (("linf", 0.08), ("l2", 1.0)):
        state = torch.get_rng_state()
        name = {"linf": "Linf", "l2": "L2"}[norm]
        reference = reference_module.SquareAttack(
            model, eps=eps, norm=name, n_queries=200, seed=0, device="cpu", resc_schedule=True
        )
        theirs = model(reference.perturb(x[0], y[0])).argmax(-1) == y[0]
        torch.set_rng_state(state)
        generators = [torch.Generator().manual_seed(1)]
        x_adv = Square(200, early_stop=True).perturb(
            x, y, Transfer(model), PerturbationBudget(norm, eps), generators
        )
        ours = model(x_adv[0]).argmax(-1) == y[0]
        assert 0.1 < theirs.double().mean() < 0.9
        assert ours.double().mean() <= theirs.double().mean() + 0.05


def test_it_keeps_the_best_of_its_own_points(linear):
    """Corners and points inside in turn: the same as drawing them all from the same generators first."""
    problem = linear(batches=2)
    ball = BUDGET.around(problem.x)
    generators = problem.generators
    points = [(ball.uniform if i % 2 else ball.random_sign)(generators) for i in range(9)]
    losses = torch.stack([loss_of(problem, point) for point in points])
    best = torch.stack(points).gather(
        0, losses.argmax(0)[None, :, :, None, None, None].expand(1, *problem.x.shape)
    )
    torch.testing.assert_close(problem.attacked(RandomSearch(9), BUDGET), best[0])
    assert (losses.argmax(0) % 2 == 1).any() and (losses.argmax(0) > 0).any()


def test_a_noisy_target_is_compared_under_the_same_draws(linear):
    problem = linear(batches=2, noise=0.5)
    problem.attacked(RandomSearch(20), BUDGET)
    asked = problem.oracle.asked
    assert len(asked) == 20
    assert asked[0::2] == asked[1::2]
    assert asked[0] != asked[2]
