import math

import pytest
import torch

from attacks.estimators import Bpda, FreshDraws, KnownDraw, Transfer
from attacks.losses import cross_entropy, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Pgd
from attacks.relaxation import Relaxation
from tests.attacks.conftest import Deterministic


def one_by_one(problem, draws_of_batch, loss):
    """Loss and gradient averaged over the named draws, one plain backward at a time."""
    losses, grads, logits = [], [], []
    for index in draws_of_batch:
        x = problem.x.clone().requires_grad_()
        answer = problem.oracle.logits(x, problem.oracle.draws(index))
        values = loss(answer, problem.y)
        grads.append(torch.autograd.grad(values.sum(), x)[0])
        losses.append(values.detach())
        logits.append(answer.detach())
    return [torch.stack(found).mean(0) for found in (losses, grads, logits)]


@pytest.mark.parametrize("max_images", [1, 13, 1000])
@pytest.mark.parametrize("draws", [1, 3, 7])
def test_eot_averages_that_many_distinct_fresh_draws(linear, draws, max_images):
    problem = linear(batches=2, classes=5, noise=0.5, mixing=0.3)
    estimator = FreshDraws(problem.oracle, draws=draws, max_images=max_images)
    for step in range(3):
        problem.oracle.asked.clear()
        found = estimator.gradient(problem.x, problem.y, cross_entropy)
        asked = [draw for forward in problem.oracle.asked for draw in forward]
        expected = range(step * draws, (step + 1) * draws)
        assert sorted(asked) == sorted((g, index) for g in range(2) for index in expected)
        loss, grad, logits = one_by_one(problem, expected, cross_entropy)
        torch.testing.assert_close(found.loss, loss)
        torch.testing.assert_close(found.grad, grad)
        torch.testing.assert_close(found.logits, logits)


def test_draws_share_a_forward_as_long_as_they_fit(linear):
    problem = linear(batches=2, k=4, noise=0.5)
    estimator = FreshDraws(problem.oracle, draws=5, max_images=2 * 8)
    estimator.gradient(problem.x, problem.y, margin_loss)
    assert [len(forward) for forward in problem.oracle.asked] == [4, 4, 2]


def test_values_are_the_losses_of_the_gradients_and_cost_no_backward(linear):
    problem = linear(batches=2, noise=0.5, classes=4)
    one, other = FreshDraws(problem.oracle, draws=3), FreshDraws(problem.oracle, draws=3)
    value = one.value(problem.x, problem.y, margin_loss)
    gradient = other.gradient(problem.x, problem.y, margin_loss)
    assert value.grad is None
    torch.testing.assert_close(value.loss, gradient.loss)
    assert (one.forwards, one.backwards, other.backwards) == (24, 0, 24)


@pytest.mark.parametrize("build", [lambda o: FreshDraws(o, draws=10), lambda o: KnownDraw(o, o.draws(0))])
def test_a_target_without_randomness_is_asked_once(linear, build):
    problem = linear(batches=2)
    estimator = build(problem.oracle)
    found = estimator.gradient(problem.x, problem.y, margin_loss)
    assert len(problem.oracle.asked) == 1 and (estimator.forwards, estimator.backwards) == (8, 8)
    torch.testing.assert_close(found.grad, one_by_one(problem, [0], margin_loss)[1])


@pytest.mark.parametrize("build", [lambda o: FreshDraws(o, draws=3), lambda o: KnownDraw(o, o.draws(5))])
def test_points_are_compared_under_the_same_draws(linear, build):
    problem = linear(batches=2, noise=0.5, classes=4)
    estimator, alone = build(problem.oracle), build(problem.oracle)
    other = 1 - problem.x
    for estimate in (estimator, alone):
        estimate.gradient(problem.x, problem.y, margin_loss)
    problem.oracle.asked.clear()
    found = estimator.compare([problem.x, other, problem.x], problem.y, margin_loss)
    third = len(problem.oracle.asked) // 3
    forwards = problem.oracle.asked
    assert forwards[:third] == forwards[third : 2 * third] == forwards[2 * third :]
    torch.testing.assert_close(found[0].loss, found[2].loss)
    torch.testing.assert_close(found[0].loss, alone.value(problem.x, problem.y, margin_loss).loss)
    assert not torch.allclose(found[0].loss, found[1].loss) and found[0].grad is None


def test_fixed_asks_one_draw_for_ever_and_known_the_given_ones(linear):
    problem = linear(batches=2, noise=0.5)
    for estimator, draw in (
        (KnownDraw(problem.oracle, problem.oracle.draws(0)), [(0, 0), (1, 0)]),
        (KnownDraw(problem.oracle, [(0, 8), (1, 3)]), [(0, 8), (1, 3)]),
    ):
        problem.oracle.asked.clear()
        for _ in range(3):
            estimator.gradient(problem.x, problem.y, margin_loss)
        assert problem.oracle.asked == [draw] * 3


def test_transfer_sees_the_model_alone(linear):
    problem = linear(batches=3, classes=4)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 4, bias=False).double())
    model[1].weight.data.copy_(problem.oracle.weights)
    estimator = Transfer(model)
    found = estimator.gradient(problem.x, problem.y, cross_entropy)
    want = one_by_one(problem, [0], cross_entropy)
    for got, expected in zip((found.loss, found.grad, found.logits), want):
        torch.testing.assert_close(got, expected)
    assert (estimator.forwards, estimator.backwards) == (12, 12)


def test_bpda_has_the_defences_losses_and_the_base_models_jacobian(linear):
    problem = linear(classes=4, noise=0.5, expansion=2)
    base = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 4, bias=False).double())
    estimator = Bpda(problem.oracle, base, draws=2)
    found = estimator.gradient(problem.x, problem.y, cross_entropy)
    loss, _, logits = one_by_one(problem, [0, 1], cross_entropy)
    torch.testing.assert_close(found.loss, loss)
    torch.testing.assert_close(found.logits, logits)
    residuals = []
    for index in (0, 1):
        answer = problem.oracle.logits(problem.x, problem.oracle.draws(index))
        residuals.append(answer.softmax(-1) - torch.nn.functional.one_hot(problem.y, 4))
    want = torch.stack(residuals).mean(0) @ base[1].weight.detach()
    torch.testing.assert_close(found.grad, want.view_as(problem.x))
    assert (estimator.forwards, estimator.backwards) == (2 * (8 + 4), 2 * 4)
    estimator.value(problem.x, problem.y, cross_entropy)
    assert (estimator.forwards, estimator.backwards) == (2 * (8 + 4) + 2 * 8, 2 * 4)


def test_wrong_answers_are_refused(linear):
    problem = linear(batches=2)
    estimator = FreshDraws(problem.oracle)
    with pytest.raises(ValueError, match=r"expected losses \(1, 2, 4\), got \(\)"):
        estimator.gradient(problem.x, problem.y, lambda logits, y: margin_loss(logits, y).sum())
    with pytest.raises(ValueError, match="expected losses without NaN, got 8 NaN"):
        estimator.gradient(problem.x, problem.y, lambda logits, y: margin_loss(logits, y) * math.nan)
    with pytest.raises(ValueError, match=r"expected logits \(2, 4, 'classes'\), got \(8, 2\)"):
        problem.oracle.logits = lambda x, draws: x.flatten(0, 1).flatten(1) @ problem.oracle.weights.T
        estimator.gradient(problem.x, problem.y, margin_loss)
    with pytest.raises(ValueError, match="expected draws >= 1, got 0"):
        FreshDraws(problem.oracle, draws=0)


def test_gradients_touch_neither_inputs_nor_parameters(linear):
    problem = linear()
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 2).double())
    before = problem.x.clone()
    Pgd(3).perturb(problem.x, problem.y, Transfer(model), PerturbationBudget("linf", 0.1), problem.generators)
    assert torch.equal(problem.x, before) and not problem.x.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_where_smooth_operators_lead_nowhere_the_gradient_is_zero_and_no_error(linear):
    class Severed(Deterministic):
        def logits(self, x, draws):
            return torch.tensor([[[float(len(x)), 0.0]] * x.shape[1]] * len(x))

    problem = linear(batches=2)
    estimator = FreshDraws(Severed())
    with pytest.raises(RuntimeError, match="has no graph back to its input"):
        estimator.gradient(problem.x, problem.y, cross_entropy)
    estimator.relaxation = Relaxation()
    found = estimator.gradient(problem.x, problem.y, cross_entropy)
    assert found.grad.shape == problem.x.shape
    assert (found.grad == 0).all()
