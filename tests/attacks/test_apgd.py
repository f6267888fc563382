import logging

import pytest
import torch

from attacks.apgd import Apgd, ApgdMultiTargeted, ApgdTargeted
from attacks.estimators import Estimate, FreshDraws, Transfer
from attacks.losses import cross_entropy, dlr, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from tests.attacks.conftest import small_network

BUDGET = PerturbationBudget("linf", 0.2)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 6, 3)], ids=str)
@pytest.mark.parametrize(
    "attack", [Apgd(20, margin_loss), Apgd(20, cross_entropy, restarts=2), ApgdTargeted(20)]
)
def test_linear_model_reaches_the_closed_form_optimum(linear, shape, attack):
    problem = linear(batches=2, k=5, shape=shape)
    best = problem.x + (0.2 * problem.slope.sign()).clamp(-problem.x, 1 - problem.x)
    x = problem.attacked(attack, BUDGET)
    torch.testing.assert_close(x, best)


def test_linear_model_reaches_the_l2_optimum_where_the_box_is_far(linear):
    problem = linear(k=5)
    x0 = 0.45 + 0.1 * problem.x
    w = problem.slope
    x = Apgd(30, margin_loss).perturb(
        x0, problem.y, FreshDraws(problem.oracle), PerturbationBudget("l2", 0.3), problem.generators
    )
    best = x0 + 0.3 * w / w.flatten(2).norm(dim=2)[..., None, None, None]
    torch.testing.assert_close(x, best, atol=1e-3, rtol=0)


class Scripted:
    """Answers with given losses, whatever is asked, and keeps every point it is asked about."""

    forwards = backwards = 0
    per_example, exhausted = True, False

    def __init__(self, losses):
        self.losses = losses
        self.points = []

    def gradient(self, x, y, loss):
        self.points.append(x.clone())
        values = torch.full(y.shape, float(self.losses[len(self.points) - 1]), dtype=x.dtype)
        return Estimate(values, torch.ones_like(x), torch.zeros(*y.shape, 2, dtype=x.dtype))

    value = gradient


def test_steps_are_halved_when_the_loss_no_longer_rises():
    x = torch.zeros(1, 1, 1, 1, 1, dtype=torch.float64)
    start = x.clone()
    y = torch.zeros(1, 1, dtype=torch.int64)
    # 10 steps: checks after 2, and after every further one (intervals 2, 1, 1, ...).
    rising = Scripted(range(11))
    Apgd(10).perturb(x, y, rising, PerturbationBudget("linf", 1.0), [], start=start)
    assert all((b >= a).all() for a, b in zip(rising.points, rising.points[1:]))
    falling = Scripted(range(11, 0, -1))
    result = Apgd(10).perturb(x, y, falling, PerturbationBudget("linf", 1.0), [], start=start)
    assert torch.equal(result, start)  # the best point is the first one
    # By hand: two moves of 2 end at the edge; then back to 0 with half the step, of which momentum keeps
    # three quarters, less a quarter of the last move undone (1, once); and so on after every move.
    want = [0, 1, 1, 3 / 4 - 1 / 4] + [3 / 4 / 2**n for n in range(1, 8)]
    assert [point.item() for point in falling.points] == want


class Lucky(Scripted):
    """Unsteady: the first point's loss was luck, as a comparison shows."""

    per_example = exhausted = coupled = False

    def compare(self, xs, y, loss):
        return [Estimate(x.mean((2, 3, 4)), None, torch.zeros(*y.shape, 2)) for x in xs]


def test_a_lucky_point_does_not_stand_a_comparison():
    x, y = torch.zeros(2, 3, 1, 1, 1), torch.zeros(2, 3, dtype=torch.int64)
    lucky = Lucky([100.0, *range(5)])
    result = Apgd(5).perturb(x, y, lucky, PerturbationBudget("linf", 0.5), [], start=x)
    assert torch.equal(result, lucky.points[-1]) and (result > 0).all()


def test_more_knowledge_to_start_from_never_does_worse(linear):
    problem = linear(batches=2, k=16, classes=6)
    budget = PerturbationBudget("linf", 0.05)
    first = problem.attacked(Apgd(5, dlr), budget)
    later = problem.attacked(Apgd(3, dlr), budget, start=first)

    def loss(x):
        return dlr(problem.oracle.logits(x, problem.oracle.draws(0)), problem.y)

    assert (loss(later) >= loss(first) - 1e-12).all()


def test_restarts_and_targets_never_do_worse(linear):
    problem = linear(k=32, classes=8)
    budget = PerturbationBudget("linf", 0.03)

    def loss(attack):
        x = problem.attacked(attack, budget)
        return margin_loss(problem.oracle.logits(x, problem.oracle.draws(0)), problem.y)

    one, three = loss(ApgdTargeted(4, targets=1)), loss(ApgdTargeted(4, targets=7))
    assert (three >= one - 1e-12).all() and (three > one + 1e-9).any()
    one, three = loss(Apgd(2, margin_loss)), loss(Apgd(2, margin_loss, restarts=3))
    assert (three >= one - 1e-12).all() and (three > one + 1e-9).any()


@pytest.fixture(scope="module")
def network():
    """A small network and inputs it gets right; about half of them have an adversary at eps 0.04."""
    return small_network(200, 6, dtype=torch.float64)


def robust(model, x, y):
    return model(x[0]).argmax(-1) == y[0]


@pytest.mark.parametrize("attack", [Apgd, ApgdTargeted, ApgdMultiTargeted])
def test_dropping_finds_the_same_examples_for_less(network, attack):
    model, x, y = network
    budget = PerturbationBudget("linf", 0.04)
    found, costs = [], []
    for early_stop in (False, True):
        estimator = Transfer(model)
        x_adv = attack(10, early_stop=early_stop).perturb(
            x, y, estimator, budget, [torch.Generator().manual_seed(0)]
        )
        assert budget.around(x).distance(x_adv).max() <= 1 + 1e-9
        found.append(robust(model, x_adv, y))
        costs.append(estimator.backwards)
    assert 0.1 < found[0].double().mean() < 0.9
    assert (found[0] != found[1]).double().mean() <= 0.01  # without dropping the largest loss counts
    assert costs[1] < 0.8 * costs[0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_every_step_is_pyautoattacks(network, norm, loss):
    base = pytest.importorskip("pyautoattack.autopgd_base")
    model, x, y = network
    # Away from the box's sides, where the reference's l2 projection is not exact.
    # On a grid of 1/1024, with eps on it: floats hold the ends of the ball exactly, however they are rounded.
    x = (1024 * (0.4 + 0.2 * x.float())).round() / 1024
    model.float()
    y = model(x[0]).argmax(-1)[None]
    eps = 41 / 1024 if norm == "linf" else 0.3
    reference = base.APGDAttack(
        model, n_iter=25, norm="Linf" if norm == "linf" else "L2", eps=eps, loss=loss, device="cpu",
        logger=logging.getLogger(),
    )  # fmt: skip
    reference.init_hyperparam(x[0])
    budget = PerturbationBudget(norm, eps)
    start = budget.around(x).uniform([torch.Generator().manual_seed(0)])
    want, _, want_loss, _ = reference.attack_single_run(x[0], y[0], x_init=start[0])
    got = Apgd(25, {"ce": cross_entropy, "dlr": dlr}[loss]).perturb(
        x, y, Transfer(model), budget, [], start=start
    )
    got_loss = {"ce": cross_entropy, "dlr": dlr}[loss](model(got[0]), y[0]).detach()
    model.double()
    # A sign of a gradient near zero may differ between two ways of adding up; a few examples may part there.
    same = ((got[0] - want).abs() < 1e-4).flatten(1).all(1)
    assert same.double().mean() > 0.9
    assert (got_loss - want_loss).abs().mean() < 1e-3


def test_robust_accuracy_is_pyautoattacks(network):
    base = pytest.importorskip("pyautoattack.autopgd_base")
    model, x, y = network
    rounded = x.float()
    model.float()
    y = model(rounded[0]).argmax(-1)[None]
    settings = {"n_iter": 20, "eps": 0.04, "device": "cpu", "logger": logging.getLogger()}
    budget = PerturbationBudget("linf", 0.04)
    state = torch.get_rng_state()
    for reference, ours in (
        (base.APGDAttack(model, loss="ce", **settings), Apgd(20, early_stop=True)),
        (
            base.APGDAttack_targeted(model, n_target_classes=5, **settings),
            ApgdTargeted(20, 5, early_stop=True),
        ),
    ):
        theirs = robust(model, reference.perturb(rounded[0], y[0])[None], y)
        x_adv = ours.perturb(rounded, y, Transfer(model), budget, [torch.Generator().manual_seed(0)])
        assert abs(robust(model, x_adv, y).double().mean() - theirs.double().mean()) <= 0.01
    torch.set_rng_state(state)
    model.double()


def test_wrong_settings_are_refused(linear):
    problem = linear(batches=2)
    budget = PerturbationBudget("linf", 0.1, eps_scale=torch.ones(2, 4))
    with pytest.raises(ValueError, match="expected one eps for all slots to stop early, got eps_scale"):
        problem.attacked(Apgd(5, early_stop=True), budget)
