import torch

from attacks.losses import margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.score_based import RandomSearch

BUDGETS = [
    PerturbationBudget("linf", 0.1),
    PerturbationBudget("l2", 0.6),
    PerturbationBudget("linf", 0.2, "normalized", (0.5, 0.3, 0.6)),
]


def found(problem, budget, steps, **options):
    attack = RandomSearch(steps, **options)
    return problem.attacked(attack, budget)


def loss_of(problem, x):
    return margin_loss(problem.oracle.logits(x, problem.oracle.draws(0)), problem.y)


def test_it_keeps_the_best_of_its_own_points(linear):
    """Corners and points inside in turn: the same as drawing them all from the same generators first."""
    problem = linear(batches=2)
    ball = BUDGETS[0].around(problem.x)
    generators = problem.generators
    points = [(ball.uniform if i % 2 else ball.random_sign)(generators) for i in range(9)]
    losses = torch.stack([loss_of(problem, point) for point in points])
    best = torch.stack(points).gather(
        0, losses.argmax(0)[None, :, :, None, None, None].expand(1, *problem.x.shape)
    )
    torch.testing.assert_close(found(problem, BUDGETS[0], 9), best[0])
    assert (losses.argmax(0) % 2 == 1).any() and (losses.argmax(0) > 0).any()


def test_a_noisy_target_is_compared_under_the_same_draws(linear):
    problem = linear(batches=2, noise=0.5)
    found(problem, BUDGETS[0], 20)
    asked = problem.oracle.asked
    assert len(asked) == 20
    assert asked[0::2] == asked[1::2]
    assert asked[0] != asked[2]
