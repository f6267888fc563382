import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks.adapters.third_party import ThirdPartyView, installed, run_third_party, seeded_from
from attacks.attack import read_attack
from attacks.estimators import Transfer
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Pgd
from tests.attacks.conftest import Deterministic, small_network

needs_torchattacks = pytest.mark.skipif(not installed("torchattacks"), reason="torchattacks is not installed")
needs_autoattack = pytest.mark.skipif(not installed("autoattack"), reason="pyautoattack is not installed")
LINF, L2 = PerturbationBudget("linf", 0.05), PerturbationBudget("l2", 0.4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the view --------------------------------------------------------------------------------------


@pytest.fixture
def coupled(linear):
    problem = linear(k=6, classes=4, mixing=3.0, dtype=torch.float32, expansion=1.5)
    return problem, ThirdPartyView(problem.oracle, problem.x[0], LINF)


def noisy(x, seed):
    return (x + 0.04 * torch.randn(x.shape, generator=generator(seed)).clamp(-1, 1)).clamp(0, 1)


def test_a_part_of_the_batch_is_answered_among_the_others(coupled):
    problem, view = coupled
    whole = problem.x[0]
    left = torch.tensor([1, 4, 5])
    shown = noisy(whole[left], 0)
    batch = whole.clone()
    batch[left] = shown
    torch.testing.assert_close(view(shown), problem.oracle.logits(batch[None], [None])[0][left])
    # Those that have left stay as they were shown last.
    later = noisy(whole[[4]], 1)
    batch[4] = later[0]
    torch.testing.assert_close(view(later)[0], problem.oracle.logits(batch[None], [None])[0][4])
    # A batch compacted as it comes would be answered otherwise.
    raw = problem.oracle.logits(shown[None], [None])[0]
    assert not torch.allclose(view(shown), raw, atol=1e-2)


def test_rows_find_their_slots_in_any_order_and_repeats_go_into_batches_of_their_own(coupled):
    problem, view = coupled
    whole = problem.x[0]
    order = torch.tensor([3, 0, 3, 5, 3])
    shown = noisy(whole[order], 2)
    answers = view(shown)
    for row, (slot, place) in enumerate(zip(order.tolist(), [0, 0, 1, 0, 2])):
        batch = whole.clone()
        for other, (its_slot, its_place) in enumerate(zip(order.tolist(), [0, 0, 1, 0, 2])):
            if its_place == place:
                batch[its_slot] = shown[other]
        want = problem.oracle.logits(batch[None], [None])[0][slot]
        torch.testing.assert_close(answers[row], want)


def test_equal_inputs_are_dealt_out_to_their_slots(linear):
    problem = linear(k=5, classes=4, mixing=1.0, dtype=torch.float32)
    x = problem.x[0].clone()
    x[3] = x[1]  # padding
    view = ThirdPartyView(problem.oracle, x, LINF)
    shown = noisy(x, 3)
    torch.testing.assert_close(view(shown), problem.oracle.logits(shown[None], [None])[0])


def test_a_whole_batch_in_its_order_needs_no_search(linear):
    problem = linear(k=4, classes=4, mixing=1.0, dtype=torch.float32)
    x = problem.x[0].clone()
    x[1:] = x[0] + 0.01 * torch.arange(1, 4)[:, None, None, None]  # nearer to each other than eps
    x.clamp_(0, 1)
    view = ThirdPartyView(problem.oracle, x, LINF)
    shown = x.flip(0) * 0.5 + x * 0.5
    torch.testing.assert_close(view(shown), problem.oracle.logits(shown[None], [None])[0])


def test_a_large_perturbation_is_matched_in_the_budgets_norm():
    # The third image is nearer to the first one's perturbation in the Euclidean sense, but not within eps.
    x = torch.zeros(2, 1, 4, 4)
    x[1, 0, 0, 0] = 0.9
    x[1, 0, 1:] = 0.15

    class Oracle(Deterministic):
        independent = False

        def logits(self, x, draws):
            return x.flatten(2)[..., :2] + torch.arange(2)[:, None]

    view = ThirdPartyView(Oracle(), x, PerturbationBudget("linf", 0.3))
    shown = torch.full((1, 1, 4, 4), 0.25)
    assert (shown - x[1]).norm() < (shown - x[0]).norm()
    torch.testing.assert_close(view(shown), torch.full((1, 2), 0.25))


def test_images_are_counted_with_those_filled_in(coupled):
    problem, view = coupled
    shown = problem.x[0][:2].clone().requires_grad_()
    torch.autograd.grad(view(shown).sum(), shown)
    with torch.no_grad():
        view(shown)
    assert (view.forwards, view.backwards) == (2 * 9, 9)


def test_gradients_reach_the_rows_shown(coupled):
    problem, view = coupled
    shown = problem.x[0][[2, 4]].clone().requires_grad_()
    (grad,) = torch.autograd.grad(view(shown)[:, 0].sum(), shown)
    batch = problem.x.clone().requires_grad_()
    logits = problem.oracle.logits(batch, [None])
    (want,) = torch.autograd.grad(logits[0, [2, 4], 0].sum(), batch)
    torch.testing.assert_close(grad, want[0, [2, 4]])


def test_every_call_asks_a_fresh_draw(linear):
    problem = linear(k=4, noise=0.5, dtype=torch.float32)
    view = ThirdPartyView(problem.oracle, problem.x[0], LINF)
    for _ in range(3):
        view(problem.x[0])
    view(torch.cat([problem.x[0], problem.x[0]]))  # two batches, two draws
    assert problem.oracle.asked == [[(0, 0)], [(0, 1)], [(0, 2)], [(0, 3), (0, 4)]]


# --- third-party attacks ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """A small network and images of which some have an adversary at eps 0.05."""
    model, x, y = small_network(60, 6)
    return model, x[0], y[0]


def stands(model, x, y):
    return (model(x).argmax(-1) == y).float().mean().item()


def states():
    return torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()


def test_global_generators_are_seeded_from_ours_and_put_back():
    before = states()
    drawn = []
    for seed in (1, 1, 2):
        with seeded_from(generator(seed)):
            drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    with pytest.raises(RuntimeError), seeded_from(generator()):
        torch.rand(1)
        raise RuntimeError
    after = states()
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]


THIRD_PARTY = [
    pytest.param("torchattacks:PGD+steps=5", marks=needs_torchattacks),
    pytest.param("torchattacks:APGDT+steps=5", marks=needs_torchattacks),
    pytest.param("torchattacks:Square+n_queries=20", marks=needs_torchattacks),
    pytest.param("torchattacks:PIFGSM", marks=needs_torchattacks),
    pytest.param("torchattacks:SPSA+nb_iter=2+nb_sample=8", marks=needs_torchattacks),
    pytest.param("autoattack:apgd-ce+n_iter=5", marks=needs_autoattack),
    pytest.param("autoattack:rand+n_iter=3+eot_iter=2", marks=needs_autoattack),
    pytest.param("autoattack:standard+n_iter=3+n_queries=10", marks=needs_autoattack),
    pytest.param("autoattack:fab+n_iter=3", marks=needs_autoattack),
]


# torchattacks has its PGD in l2 under another name, and these two in linf alone.
IN_BOTH_NORMS = [
    pytest.param(text.replace("PGD+", "PGDL2+") if budget is L2 else text, budget, marks=marks)
    for budget in (LINF, L2)
    for (text,), marks, _ in THIRD_PARTY
    if budget is LINF or not text.startswith(("torchattacks:PIFGSM", "torchattacks:SPSA"))
]


@pytest.mark.parametrize(("text", "budget"), IN_BOTH_NORMS)
def test_peers_stay_in_the_budget_repeat_by_seed_and_leave_the_generators_alone(network, text, budget):
    model, x, y = network
    before = states()
    stored_otherwise = x.contiguous(memory_format=torch.channels_last)
    results = [
        run_third_party(read_attack(text), model, images, y, budget, generator())
        for images in (x, stored_otherwise)
    ]
    after = states()
    assert torch.equal(*results)
    assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]
    x_adv = results[0]
    assert (
        x_adv.min() >= 0
        and x_adv.max() <= 1
        and budget.around(x[None]).distance(x_adv[None]).max() <= 1 + 1e-5
    )
    assert stands(model, x_adv, y) < 1
    nothing = run_third_party(read_attack(text), model, x, y, replace(budget, eps=0.0), generator())
    assert torch.equal(nothing, x)


@needs_torchattacks
def test_steps_stated_for_the_default_eps_are_scaled(network):
    model, x, y = network
    scaled = run_third_party(
        read_attack("torchattacks:PGD+steps=1+random_start=false"), model, x, y, LINF, generator()
    )
    given = run_third_party(
        read_attack("torchattacks:PGD+steps=1+random_start=false+alpha=1/100"), model, x, y, LINF, generator()
    )
    ours = [
        Pgd(1, size).perturb(x[None], y[None], Transfer(model), LINF, [], start=x[None])[0]
        for size in (0.0125, 0.01)
    ]
    torch.testing.assert_close(scaled, ours[0])
    torch.testing.assert_close(given, ours[1])


@needs_autoattack
@pytest.mark.parametrize("text", ["autoattack:standard+n_iter=5+n_queries=5", "autoattack:rand+n_iter=5"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_suite_runs_on_few_classes_and_fools_a_linear_model(text, classes):
    """Margins below what a move of eps against the weights is worth fall; those far above it stand."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(25, classes, bias=False))
    model[1].weight.data = torch.nn.functional.one_hot(torch.arange(25) % classes).T.float()
    x, y = torch.full((6, 1, 5, 5), 0.5), torch.zeros(6, dtype=torch.int64)
    # The first class's pixels are lighter: by little in three inputs, by much in the others.
    lighter = torch.tensor([0.01, 0.02, 0.03, 0.3, 0.3, 0.3]).view(-1, 1, 1)
    x[:, 0] += lighter * (torch.arange(25).view(5, 5) % classes == 0)
    result = run_third_party(read_attack(text), model, x, y, LINF, generator())
    assert model(result).argmax(1).bool().tolist() == [True] * 3 + [False] * 3


@needs_torchattacks
@needs_autoattack
@pytest.mark.parametrize(
    ("text", "budget", "message"),
    [
        ("torchattacks:PGD+stepz=3", LINF, "expected an option out of alpha, steps, random_start, got stepz"),
        ("torchattacks:PGD+steps=many", LINF, "expected a int, got 'many'"),
        ("torchattacks:PGD", PerturbationBudget("l2", 1.0), "Square for l2"),
        ("autoattack:square+n_iter=3", LINF, "expected an option of square, got n_iter"),
        (
            "autoattack:rand",
            PerturbationBudget("linf", 0.1, "normalized", (1.0, 1.0, 1.0)),
            "expected eps in pixel units",
        ),
    ],
)
def test_what_a_peer_does_not_know_is_refused(network, text, budget, message):
    model, x, y = network
    with pytest.raises(ValueError, match=message):
        run_third_party(read_attack(text), model, x, y, budget, generator())
