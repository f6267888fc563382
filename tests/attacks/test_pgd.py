import pytest
import torch

from attacks.estimators import FreshDraws, KnownDraw, Transfer
from attacks.losses import cross_entropy, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Fgsm, Pgd, default_step_size
from tests.attacks.conftest import LinearOracle, small_network

SHAPES = [(3, 4, 4), (1, 6, 3), (2, 1, 7)]


def best_linear(x0, w, budget):
    """The point of ball and box that raises the linear function w most, by bisection on its multiplier."""
    low, high = -x0, 1 - x0
    if budget.norm == "linf":
        return x0 + (budget.eps * w.sign()).clamp(low, high)
    small = torch.zeros(*x0.shape[:2], *[1] * (x0.ndim - 2), dtype=x0.dtype)
    large = torch.full_like(small, 1e6)
    for _ in range(200):
        t = (small + large) / 2
        moved = (t * w).clamp(low, high).flatten(2).norm(dim=2).view_as(t)
        small, large = torch.where(moved < budget.eps, t, small), torch.where(moved < budget.eps, large, t)
    return x0 + (small * w).clamp(low, high)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("k", [4, 33])
@pytest.mark.parametrize(
    "budget",
    [PerturbationBudget("linf", 0.2), PerturbationBudget("l2", 1.2), PerturbationBudget("l2", 0.3)],
    ids=str,
)
def test_linear_model_reaches_the_closed_form_optimum(linear, shape, k, budget):
    problem = linear(batches=2, k=k, shape=shape)
    best = best_linear(problem.x, problem.slope, budget)
    # The box must matter, else the plain ball would do.
    assert ((best == 0) | (best == 1)).any()
    attack = Pgd(300 if budget.norm == "l2" else 10, loss=margin_loss)
    x = problem.attacked(attack, budget)
    torch.testing.assert_close(x, best, atol=1e-3 if budget.norm == "l2" else 1e-12, rtol=0)
    if budget.norm == "linf":
        x = problem.attacked(Fgsm(loss=margin_loss), budget)
        torch.testing.assert_close(x, best)


def test_default_step_sizes():
    assert default_step_size(8 / 255, 10) == default_step_size(8 / 255, 20) == 2 / 255
    assert default_step_size(8 / 255, 21) == default_step_size(8 / 255, 100) == 1 / 255


def test_the_last_of_the_stated_number_of_moves_is_returned(linear):
    problem = linear()
    x0 = (0.4 + 0.2 * problem.x).clamp(0, 1)
    estimator = FreshDraws(problem.oracle)
    x = Pgd(3, 0.01, margin_loss).perturb(
        x0, problem.y, estimator, PerturbationBudget("linf", 0.2), [], start=x0
    )
    torch.testing.assert_close(x, x0 + 0.03 * problem.slope.sign())
    assert estimator.backwards == 3 * 4


def test_start_is_projected_and_left_alone(linear):
    problem = linear()
    start = torch.ones_like(problem.x)
    for attack in (Fgsm(1e-9), Pgd(1, 1e-9)):
        x = attack.perturb(
            problem.x, problem.y, FreshDraws(problem.oracle), PerturbationBudget("linf", 0.1), [], start=start
        )
        torch.testing.assert_close(x, (problem.x + 0.1).clamp(max=1), atol=1e-8, rtol=0)
    assert torch.equal(start, torch.ones_like(start))


@pytest.fixture
def network():
    """A small network, with labels it gets right, that PGD breaks at different steps."""
    return small_network(40, 5, scale=0.2, activation=torch.nn.ReLU)


@pytest.mark.parametrize("momentum", [0, 1])
def test_dropping_stops_at_the_first_wrong_answer_and_changes_nothing_else(network, momentum):
    model, x, y = network
    budget, steps = PerturbationBudget("linf", 0.08), 8
    start = budget.around(x).uniform([torch.Generator().manual_seed(0)])
    estimator = Transfer(model)
    dropped = Pgd(steps, 0.01, early_stop=True, momentum=momentum).perturb(
        x, y, estimator, budget, [], start=start
    )
    iterates = [start]
    for n in range(1, steps + 1):
        attack = Pgd(n, 0.01, momentum=momentum)
        iterates.append(attack.perturb(x, y, Transfer(model), budget, [], start=start))
    wrong = torch.stack([model(i[0]).argmax(-1) != y[0] for i in iterates[:-1]])
    stopped = torch.where(wrong.any(0), wrong.int().argmax(0), steps)
    assert len(stopped.unique()) > 4  # examples of every kind
    for example, step in enumerate(stopped):
        torch.testing.assert_close(dropped[0, example], iterates[step][0, example], atol=1e-6, rtol=0)
    assert estimator.backwards == sum(min(int(s) + 1, steps) for s in stopped)


@pytest.mark.parametrize("decay", [1.0, 0.6])
def test_momentum_is_torchattacks_mifgsm(network, decay):
    model, x, y = network
    torchattacks = pytest.importorskip("torchattacks")
    reference = torchattacks.MIFGSM(model, eps=0.08, alpha=0.02, steps=6, decay=decay)
    attack = Pgd(6, 0.02, momentum=decay)
    ours = attack.perturb(x, y, Transfer(model), PerturbationBudget("linf", 0.08), [], start=x)
    theirs = reference(x[0], y[0])
    # Where a gradient is 0 but for rounding, its sign is anybody's.
    assert (ours[0] - theirs).abs().lt(1e-5).float().mean() > 0.999


def test_momentum_averages_over_the_draws_of_all_steps(linear):
    """A single draw's gradient points anywhere; the sum of a hundred points where their mean does."""
    problem = linear(batches=3, noise=3.0)
    budget = PerturbationBudget("linf", 0.1)
    best = best_linear(problem.x, problem.slope, budget)

    def reached(momentum):
        attack = Pgd(100, 0.01, loss=margin_loss, momentum=momentum)
        x = problem.attacked(attack, budget)
        return float(((x - problem.x) * problem.slope).sum() / ((best - problem.x) * problem.slope).sum())

    assert 1 - reached(1) < 0.7 * (1 - reached(0))


def test_dropping_everything_ends_the_attack(network):
    model, x, y = network
    estimator = Transfer(model)
    x_adv = Pgd(10, early_stop=True).perturb(
        x, (y + 1) % 5, estimator, PerturbationBudget("linf", 0.0), [], start=x
    )
    assert torch.equal(x_adv, x) and estimator.forwards == 40


def test_dropping_refuses_what_it_cannot_do(linear):
    problem = linear(batches=2)
    budget = PerturbationBudget("linf", 0.1, eps_scale=torch.ones(2, 4))
    with pytest.raises(ValueError, match="expected one eps for all slots to stop early, got eps_scale"):
        problem.attacked(Pgd(2, early_stop=True), budget)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_parity_with_torchattacks_from_the_same_start(network, norm):
    torchattacks = pytest.importorskip("torchattacks")
    model, x, y = network
    x = x.double() * 0.6 + 0.2  # away from the box's sides, where torchattacks' l2 projection is not exact
    model.double()
    eps, size, steps = (0.03, 0.01, 10) if norm == "linf" else (0.5, 0.1, 10)
    reference = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
    want = reference(model, eps=eps, alpha=size, steps=steps, random_start=False)(x[0], y[0])
    got = Pgd(steps, size).perturb(x, y, Transfer(model), PerturbationBudget(norm, eps), [], start=x)
    torch.testing.assert_close(got[0], want, atol=1e-5, rtol=0)
    assert (got - x).abs().max() > 0.9 * (eps if norm == "linf" else eps / 10)


def test_knowing_the_draw_beats_not_knowing_it(linear):
    problem = linear(batches=2, k=32, noise=1.0)
    budget = PerturbationBudget("linf", 0.05)
    scored = problem.oracle.draws(99)

    def loss_on_scored(estimator):
        x = Pgd(10, loss=margin_loss).perturb(problem.x, problem.y, estimator, budget, problem.generators)
        return margin_loss(problem.oracle.logits(x, scored), problem.y).mean()

    aware = loss_on_scored(KnownDraw(problem.oracle, scored))
    many = loss_on_scored(FreshDraws(problem.oracle, draws=20))
    surrogate = loss_on_scored(KnownDraw(problem.oracle, problem.oracle.draws(0)))
    assert aware > many > surrogate


class Pairs(LinearOracle):
    """Two classes by the mean of an input; the second of two is moved a fifth as far by the first."""

    def logits(self, x, draws):
        means = x.flatten(2).mean(-1).unflatten(1, (-1, 2))
        first, second = (50 * (means - 0.5)).unbind(-1)
        score = torch.stack([first, second - first / 5 - 1], -1).flatten(1)
        return torch.stack([-score, score], -1)


def test_in_a_batch_answered_together_cross_entropy_serves_the_wrong_and_the_margin_everybody():
    # The second of each pair is wrong already; raising the first makes it more so, and the first more right.
    oracle = Pairs(torch.zeros(2, 4, dtype=torch.float64), 1, mixing=1.0)
    x = torch.tensor([0.65, 0.5] * 4, dtype=torch.float64)[None, :, None, None, None].expand(1, 8, 1, 2, 2)
    y = torch.ones(1, 8, dtype=torch.int64)
    left = {}
    for loss in (cross_entropy, margin_loss):
        attack = Pgd(40, loss=loss, momentum=1.0)
        generators = [torch.Generator().manual_seed(0)]
        found = attack.perturb(x, y, FreshDraws(oracle), PerturbationBudget("linf", 0.25), generators)
        left[loss] = int((oracle.logits(found, oracle.draws(0)).argmax(-1) == y).sum())
    assert left == {cross_entropy: 4, margin_loss: 0}
