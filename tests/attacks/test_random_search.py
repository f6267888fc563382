import torch

from attacks.losses import margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.score_based import RandomSearch

BUDGET = PerturbationBudget("linf", 0.1)


def loss_of(problem, x):
    return margin_loss(problem.oracle.logits(x, problem.oracle.draws(0)), problem.y)


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
