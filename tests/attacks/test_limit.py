"""Every attack ends with what it has where the images it may cost are used up."""

import math

import pytest
import torch

from attacks.adapters.third_party import QueryBudgetExhausted, ThirdPartyView, installed, run_third_party
from attacks.losses import margin_loss
from attacks.naming import parse
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Pgd
from attacks.registry import attack_for, estimator_for

BUDGET = PerturbationBudget("linf", 0.1)


def perturb(problem, attack, text, query_budget):
    estimator = estimator_for(parse(text), problem.oracle, query_budget=query_budget)
    x = attack.perturb(problem.x, problem.y, estimator, BUDGET, problem.generators)
    return x, estimator.forwards + estimator.backwards


@pytest.mark.parametrize(
    ("text", "dearest"),  # and what its dearest question costs for each input
    [
        ("pgd-50", 2),
        ("eot4-pgd-50", 8),
        ("apgd-ce-50", 2),
        ("apgd-ce-50+restarts=2", 2),
        ("apgd-t-50", 2),
        ("eot2-apgd-mt-15", 4),
        ("pgd-15+restarts=3", 2),
        ("fmn-50", 2),
        ("eot2-fab-50", 4),
        ("square-90", 10),
        ("random-90", 10),
        ("spsa-320", 2),
        ("rays-90", 10),
        ("hopskipjump-90", 10),
    ],
)
@pytest.mark.parametrize(("share", "noise"), [(0.1, 0.3), (0.35, 0.0), (0.8, 0.3)])
def test_cost_ends_below_the_limit_by_less_than_one_question(linear, text, dearest, share, noise):
    problem = linear(batches=2, classes=5, noise=noise)
    attack = attack_for(parse(text))
    _, whole = perturb(problem, attack, text, None)
    query_budget = int(share * whole)
    x, cost = perturb(problem, attack, text, query_budget)
    # The forward that tells runs of Auto-PGD apart comes on top.
    more = 8 if text.startswith("apgd-t") or "restarts" in text or "-mt-" in text else 0
    assert query_budget - dearest * 8 < cost <= query_budget + more
    assert BUDGET.around(problem.x).distance(x).max() <= 1 + 1e-9


@pytest.mark.parametrize("text", ["pgd-50", "apgd-ce-50", "square-90"])
def test_a_limit_that_pays_for_everything_changes_nothing(linear, text):
    problem = linear(batches=2, classes=5, noise=0.3)
    free, cost = perturb(problem, attack_for(parse(text)), text, None)
    limited, _ = perturb(problem, attack_for(parse(text)), text, cost)
    assert torch.equal(free, limited)


def test_what_it_has_is_what_fewer_steps_give(linear):
    problem = linear(batches=2, classes=5)
    stopped, cost = perturb(problem, Pgd(50, 0.01), "pgd-50", 4 * 2 * 8)
    assert cost == 4 * 2 * 8
    wanted, _ = perturb(problem, Pgd(4, 0.01), "pgd-4", None)
    assert torch.equal(stopped, wanted)


def test_dropping_leaves_more_for_the_others(linear):
    problem = linear(batches=1, k=64, classes=5)
    gains = []
    for early_stop in (False, True):
        x, _ = perturb(problem, attack_for(parse("pgd-200"), early_stop=early_stop), "pgd-200", 20 * 2 * 64)
        gains.append((margin_loss(problem.oracle.logits(x, [None]), problem.y) > 0).double().mean())
    assert gains[1] >= gains[0]


@pytest.fixture
def view(linear):
    problem = linear(k=6, classes=4, mixing=1.0, dtype=torch.float32)
    return problem, lambda query_budget: ThirdPartyView(problem.oracle, problem.x[0], BUDGET, query_budget)


def test_a_view_refuses_calls_beyond_its_limit(view):
    problem, build = view
    limited = build(12)
    limited(problem.x[0])
    limited(problem.x[0])
    with pytest.raises(QueryBudgetExhausted):
        limited(problem.x[0])
    with limited.uncounted():
        limited(problem.x[0])
    assert limited.forwards == 12


def test_a_call_that_asks_for_a_gradient_must_pay_for_it(view):
    problem, build = view
    limited = build(11)
    with pytest.raises(QueryBudgetExhausted):
        limited(problem.x[0].clone().requires_grad_())
    assert limited.forwards == 0
    limited(problem.x[0])
    assert limited.forwards == 6


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_a_stopped_peer_keeps_what_was_wrong_for_good(linear, mixing):
    problem = linear(k=6, classes=4, mixing=mixing, dtype=torch.float32)
    clean, y = problem.x[0], problem.y[0]
    # Moved far towards another class, but for every other input.
    slope = problem.oracle.weights[(y + 1) % 4] - problem.oracle.weights[y]
    slope[::2] = 0
    far = (clean + slope.view_as(clean)).clamp(0, 1)
    broken = problem.oracle.logits(far[None], [None])[0].argmax(1) != y
    assert broken.any() and not broken.all()
    limited = ThirdPartyView(problem.oracle, clean, PerturbationBudget("linf", 1.0), 1000, y)
    limited(far)
    limited(clean)
    # Elsewhere being wrong once may be owed to chance or the batch: then the last counts.
    kept = broken[:, None, None, None] & (mixing == 0)
    assert torch.equal(limited.shown, torch.where(kept, far, clean))


@pytest.mark.skipif(not installed("torchattacks"), reason="torchattacks is not installed")
def test_a_stopped_peer_gives_what_it_showed_last(view):
    problem, build = view
    name = parse("torchattacks:PGD+steps=20+random_start=false+alpha=0.01")
    limited = build(5 * 2 * 6)  # five gradients of the whole batch
    result = run_third_party(
        name, limited, problem.x[0], problem.y[0], BUDGET, torch.Generator().manual_seed(0)
    )
    assert math.isnan(result.verdict) and limited.forwards + limited.backwards == 5 * 2 * 6
    four_moves = parse("torchattacks:PGD+steps=4+random_start=false+alpha=0.01")
    free = build(None)
    want = run_third_party(
        four_moves, free, problem.x[0], problem.y[0], BUDGET, torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(result.x, want.x)
    assert want.verdict == pytest.approx(
        (problem.oracle.logits(want.x[None], [None])[0].argmax(1) == problem.y[0]).float().mean().item()
    )
    assert free.forwards == 4 * 6  # the verdict is not the attack's


@pytest.mark.skipif(not installed("autoattack"), reason="pyautoattack is not installed")
def test_a_stopped_suite_keeps_its_slots(linear):
    problem = linear(k=20, classes=5, dtype=torch.float32)
    limited = ThirdPartyView(problem.oracle, problem.x[0], BUDGET, 20 * 2 * 12)
    name = parse("autoattack:apgd-ce+n_iter=50")
    result = run_third_party(
        name, limited, problem.x[0], problem.y[0], BUDGET, torch.Generator().manual_seed(0)
    )
    assert math.isnan(result.verdict)
    assert BUDGET.around(problem.x).distance(result.x[None]).max() <= 1 + 1e-5
    before, after = (
        margin_loss(problem.oracle.logits(x[None], [None])[0], problem.y[0]) for x in (problem.x[0], result.x)
    )
    assert (after > before).all()  # rows went back to the slots they came from
