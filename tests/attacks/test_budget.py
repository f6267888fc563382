import math

import pytest
import torch

from attacks.norms import norm_named
from attacks.perturbation_budget import PerturbationBudget

SHAPE = (2, 3, 3, 4, 5)  # G, K, C, H, W
DEVIATION = (0.25, 0.5, 0.1)


def rand(seed: int, shape=SHAPE, dtype=torch.float64) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def generators(n: int = 2, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + g) for g in range(n)]


def budgets(eps: float) -> list[PerturbationBudget]:
    return [
        PerturbationBudget("linf", eps),
        PerturbationBudget("l2", 8 * eps),
        PerturbationBudget("linf", eps, "normalized", DEVIATION),
        PerturbationBudget("l2", 8 * eps, "normalized", DEVIATION),
    ]


def test_projection_leaves_feasible_points_and_its_argument_alone():
    x0 = rand(0)
    for budget in budgets(0.1):
        x = budget.around(x0).project_(rand(1))
        before = x.clone()
        torch.testing.assert_close(budget.around(x0).project_(x.clone()), x, atol=1e-9, rtol=0)
        budget.around(x0).step_(x.clone(), rand(2) - 0.5, 0.05)
        assert torch.equal(x, before)


def test_l2_step_has_the_stated_length_and_direction():
    x0 = 0.4 + 0.2 * rand(0)
    grad = rand(1) - 0.5
    moved = PerturbationBudget("l2", 0.3).around(x0).step_(x0.clone(), grad, 0.1) - x0
    torch.testing.assert_close(moved.flatten(2).norm(dim=2), torch.full((2, 3), 0.1, dtype=torch.float64))
    torch.testing.assert_close(
        torch.cosine_similarity(moved.flatten(2), grad.flatten(2), dim=2),
        torch.ones(2, 3, dtype=torch.float64),
    )


def test_normalized_l2_step_gains_most_among_steps_of_its_length():
    x0, grad = torch.full(SHAPE, 0.5, dtype=torch.float64), rand(1) - 0.5
    unit = torch.tensor(DEVIATION, dtype=torch.float64).view(3, 1, 1)
    moved = (
        PerturbationBudget("l2", 0.2, "normalized", DEVIATION).around(x0).step_(x0.clone(), grad, 0.1) - x0
    )
    torch.testing.assert_close((moved / unit).flatten(2).norm(dim=2), torch.full((2, 3), 0.1).double())
    # Steps u of length 0.1 in scaled values gain u . (unit * grad), at most 0.1 times its norm.
    gain = (moved * grad).flatten(2).sum(2)
    torch.testing.assert_close(gain, 0.1 * (unit * grad).flatten(2).norm(dim=2))


def test_a_zero_gradient_moves_nothing():
    x0 = rand(0)
    for budget in budgets(0.1):
        torch.testing.assert_close(
            budget.around(x0).step_(x0.clone(), torch.zeros_like(x0), 0.1), x0, atol=1e-12, rtol=0
        )


def test_linf_start_fills_the_feasible_box_evenly():
    x0 = torch.full((1, 50, 3, 16, 16), 0.95)
    x = PerturbationBudget("linf", 0.1).around(x0).uniform(generators(1))
    # Feasible are [0.85, 1.0]: an even spread has mean 0.925 and deviation 0.15 / sqrt(12).
    assert abs(x.mean().item() - 0.925) < 1e-3
    assert abs(x.std().item() - 0.15 / math.sqrt(12)) < 1e-3


def test_l2_start_fills_the_ball_evenly():
    x0 = torch.full((1, 20_000, 1, 1, 2), 0.5)
    ball = PerturbationBudget("l2", 0.1).around(x0)
    radius = ball.distance(ball.uniform(generators(1)))
    # In two dimensions a share r^2 of an even spread lies within r.
    for r in (0.3, 0.6, 0.9):
        assert abs((radius <= r).double().mean().item() - r**2) < 0.01


def test_random_sign_has_the_attacks_size_and_fair_signs():
    x0 = torch.full((1, 10, 3, 16, 16), 0.5)
    moved = PerturbationBudget("linf", 8 / 255).around(x0).random_sign(generators(1)) - x0
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 8 / 255))
    assert abs((moved > 0).double().mean().item() - 0.5) < 0.02
    moved = PerturbationBudget("l2", 0.5).around(x0).random_sign(generators(1)) - x0
    torch.testing.assert_close(moved.flatten(2).norm(dim=2), torch.full((1, 10), 0.5))
    assert moved.abs().unique().numel() <= 4  # one size, up to rounding


def test_random_numbers_of_a_batch_do_not_depend_on_its_group():
    x0 = rand(0, (3, *SHAPE[1:]))
    for budget in budgets(0.1):
        together, alone = budget.around(x0), budget.around(x0[1:2])
        for draw in ("uniform", "random_sign"):
            drawn = getattr(together, draw)(generators(3))[1:2]
            assert torch.equal(drawn, getattr(alone, draw)(generators(1, seed=1)))


def test_reach_holds_slots_and_frees_others():
    x0 = rand(0)
    eps_scale = torch.tensor([[0.0, 1.0, math.inf], [0.5, 0.0, 1.0]], dtype=torch.float64)
    far = 5 * rand(1) - 2
    for norm, eps in (("linf", 0.1), ("l2", 0.5)):
        budget = PerturbationBudget(norm, eps, eps_scale=eps_scale)
        x = budget.around(x0).project_(far.clone())
        assert torch.equal(x[0, 0], x0[0, 0]) and torch.equal(x[1, 1], x0[1, 1])
        torch.testing.assert_close(x[0, 2], far[0, 2].clamp(0, 1))
        distance = PerturbationBudget(norm, eps).around(x0).distance(x)
        torch.testing.assert_close(distance[0, 1].item(), 1.0)
        torch.testing.assert_close(distance[1, 0].item(), 0.5)
        assert (budget.around(x0).distance(x) <= 1 + 1e-9).all()
        step = budget.around(x0).step_(x0.clone(), rand(2) - 0.5, eps)
        assert torch.equal(step[0, 0], x0[0, 0]) and not torch.equal(step[0, 2], x0[0, 2])
        for x in (budget.around(x0).uniform(generators()), budget.around(x0).random_sign(generators())):
            assert x.isfinite().all() and torch.equal(x[0, 0], x0[0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("l3", 0.1), "expected norm linf, l2, l1 or l0, .*got .l3"),
        (("linf", 8.0), r"expected eps on the scale of \[0, 1\] \(8/255, not 8\), got 8"),
        (("linf", -0.1), "expected a finite eps >= 0, got -0.1"),
        (("l2", math.nan), "expected a finite eps >= 0, got nan"),
        (("linf", 0.1, "lab"), "expected eps_space pixel or normalized, got lab"),
        (("linf", 0.1, "normalized"), "expected a deviation for normalized eps alone, got None"),
        (("linf", 0.1, "pixel", (1.0,)), "expected a deviation for normalized eps alone"),
        (("linf", 0.1, "normalized", (0.0,)), "expected positive deviations"),
    ],
)
def test_wrong_budgets_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PerturbationBudget(*arguments)


def test_wrong_inputs_are_refused():
    budget = PerturbationBudget("linf", 0.1)
    with pytest.raises(ValueError, match=r"x0 in \[0, 1\], got \[255, 255\]"):
        budget.around(torch.full((1, 1, 3, 2, 2), 255.0))
    with pytest.raises(ValueError, match=r"x0 in \[0, 1\]"):
        budget.around(torch.full((1, 1, 3, 2, 2), math.nan))
    with pytest.raises(ValueError, match=r"x0 \[G, K, C, H, W\], got \(3, 2, 2\)"):
        budget.around(torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="expected 1 deviations, got 3"):
        PerturbationBudget("linf", 0.1, "normalized", DEVIATION).around(torch.zeros(1, 1, 1, 2, 2))
    with pytest.raises(ValueError, match="expected 2 generators, one a batch, got 1"):
        budget.around(rand(0)).uniform(generators(1))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("Linf", "linf"),
        (math.inf, "linf"),
        ("L-inf", "linf"),
        (2, "l2"),
        (2.0, "l2"),
        ("l_1", "l1"),
        (0, "l0"),
    ],
)
def test_a_norm_by_its_usual_names(given, named):
    assert norm_named(given) == named == norm_named(named)


@pytest.mark.parametrize("given", ["l3", "linf-low8", "linf:8/255+l2:0.5", "linf+l2", "", True])
def test_what_is_no_norm(given):
    with pytest.raises(ValueError, match="expected norm linf, l2, l1 or l0, got"):
        norm_named(given)
