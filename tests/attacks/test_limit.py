"""Every attack ends with what it has where the images it may cost are used up."""

import math

import pytest
import torch

from attacks.adapters.peer import installed, run_peer
from attacks.adapters.view import PeerView, Spent
from attacks.budget import Budget
from attacks.losses import margin
from attacks.naming import parse
from attacks.pgd import Pgd
from attacks.registry import attack_for, estimator_for

BUDGET = Budget("linf", 0.1)


def perturb(problem, attack, text, limit):
    estimator = estimator_for(parse(text), problem.oracle, limit=limit)
    x = attack.perturb(problem.x, problem.y, estimator, BUDGET, problem.generators)
    return x, estimator.forwards + estimator.backwards


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize(
    "text",
    [
        "pgd-50",
        "eot4-pgd-50",
        "gmsa3avg-pgd-20",
        "apgd-ce-50",
        "apgd-t-50",
        "square-90",
        "random-90",
        "spsa-320",
    ],
)
def test_cost_stays_within_one_question_of_the_limit(linear, text, noise):
    problem = linear(batches=2, classes=5, noise=noise)
    attack = attack_for(parse(text))
    _, whole = perturb(problem, attack, text, None)
    x, cost = perturb(problem, attack, text, whole // 3)
    most_of_one_move = (
        32 * 8 if text.startswith("spsa") else 2 * 2 * 8 * (5 if text.startswith(("square", "random")) else 4)
    )
    assert whole // 3 <= cost < whole // 3 + most_of_one_move
    assert BUDGET.distance(x, problem.x).max() <= 1 + 1e-9


def test_what_it_has_is_what_fewer_steps_give(linear):
    problem = linear(batches=2, classes=5)
    stopped, cost = perturb(problem, Pgd(50, 0.01), "pgd-50", 4 * 2 * 8)
    assert cost == 4 * 2 * 8
    wanted, _ = perturb(problem, Pgd(4, 0.01), "pgd-4", None)
    assert torch.equal(stopped, wanted)


def test_dropping_leaves_more_for_the_others(linear):
    problem = linear(batches=1, k=64, classes=5)
    gains = []
    for drop in (False, True):
        x, _ = perturb(problem, attack_for(parse("pgd-200"), drop=drop), "pgd-200", 20 * 2 * 64)
        gains.append((margin(problem.oracle.logits(x, [None]), problem.y) > 0).double().mean())
    assert gains[1] >= gains[0]


@pytest.fixture
def view(linear):
    problem = linear(k=6, classes=4, mixing=1.0, dtype=torch.float32)
    return problem, lambda limit: PeerView(problem.oracle, problem.x[0], BUDGET, limit)


def test_a_view_refuses_calls_beyond_its_limit(view):
    problem, build = view
    limited = build(12)
    limited(problem.x[0])
    limited(problem.x[0])
    with pytest.raises(Spent):
        limited(problem.x[0])
    with limited.uncounted():
        limited(problem.x[0])
    assert limited.forwards == 12


@pytest.mark.skipif(not installed("torchattacks"), reason="torchattacks is not installed")
def test_a_stopped_peer_gives_what_it_showed_last(view):
    problem, build = view
    name = parse("torchattacks:PGD+steps=20+random_start=false+alpha=0.01")
    limited = build(5 * 2 * 6)  # five gradients of the whole batch
    result = run_peer(name, limited, problem.x[0], problem.y[0], BUDGET, torch.Generator().manual_seed(0))
    assert math.isnan(result.verdict) and limited.forwards + limited.backwards == 5 * 2 * 6
    four_moves = parse("torchattacks:PGD+steps=4+random_start=false+alpha=0.01")
    free = build(None)
    want = run_peer(four_moves, free, problem.x[0], problem.y[0], BUDGET, torch.Generator().manual_seed(0))
    torch.testing.assert_close(result.x, want.x)
    assert want.verdict == pytest.approx(
        (problem.oracle.logits(want.x[None], [None])[0].argmax(1) == problem.y[0]).float().mean().item()
    )
    assert free.forwards == 4 * 6  # the verdict is not the attack's


@pytest.mark.skipif(not installed("autoattack"), reason="pyautoattack is not installed")
def test_a_stopped_suite_keeps_its_slots(linear):
    problem = linear(k=20, classes=5, dtype=torch.float32)
    limited = PeerView(problem.oracle, problem.x[0], BUDGET, 20 * 2 * 12)
    name = parse("autoattack:apgd-ce+n_iter=50")
    result = run_peer(name, limited, problem.x[0], problem.y[0], BUDGET, torch.Generator().manual_seed(0))
    assert math.isnan(result.verdict)
    assert BUDGET.distance(result.x[None], problem.x).max() <= 1 + 1e-5
    before, after = (
        margin(problem.oracle.logits(x[None], [None])[0], problem.y[0]) for x in (problem.x[0], result.x)
    )
    assert (after > before).all()  # rows went back to the slots they came from
