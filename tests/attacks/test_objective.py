import pytest
import torch

from attacks.estimators import FreshDraws
from attacks.losses import cross_entropy, margin_loss
from attacks.oracle import co_batch, copies, one_victim
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Pgd


def test_weights_choose_whose_loss_counts(linear):
    problem = linear(batches=2, k=4, classes=4, mixing=2.0)
    slots, rows = torch.tensor([2, 0]), torch.arange(2)
    estimator = FreshDraws(problem.oracle, weights=one_victim(slots, 4).weights)
    found = estimator.gradient(problem.x, problem.y, cross_entropy)
    x = problem.x.clone().requires_grad_()
    losses = cross_entropy(problem.oracle.logits(x, problem.oracle.draws(0)), problem.y)[rows, slots]
    torch.testing.assert_close(found.loss, losses.detach()[:, None].expand(2, 4))
    torch.testing.assert_close(found.grad, torch.autograd.grad(losses.sum(), x)[0])
    assert (found.grad[0, 1] != 0).any()  # co-batched inputs move the victim's loss


def perturb(problem, roles, steps=20, norm="linf", eps=0.1):
    budget = PerturbationBudget(norm, eps, eps_scale=roles.eps_scale)
    estimator = FreshDraws(problem.oracle, weights=roles.weights)
    return Pgd(steps, loss=margin_loss).perturb(problem.x, problem.y, estimator, budget, problem.generators)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_victim_moves_alone_and_co_batch_adds_to_its_loss(linear, norm):
    problem = linear(batches=2, k=4, mixing=1.0)
    slots, rows = torch.tensor([3, 1]), torch.arange(2)
    alone = perturb(problem, one_victim(slots, 4), norm=norm)
    moved = (alone != problem.x).flatten(2).any(2)
    assert torch.equal(moved, torch.nn.functional.one_hot(slots, 4).bool())
    attacked = perturb(problem, co_batch(slots, 4), steps=60, norm=norm)
    assert attacked.min() >= 0 and attacked.max() <= 1
    assert PerturbationBudget(norm, 0.1).around(problem.x).distance(attacked)[rows, slots].max() <= 1 + 1e-6

    def victims_loss(x):
        return margin_loss(problem.oracle.logits(x, problem.oracle.draws(0)), problem.y)[rows, slots]

    assert (victims_loss(alone) > victims_loss(problem.x)).all()
    assert (victims_loss(attacked) > victims_loss(alone)).all()
    if norm == "linf":
        # Linear: the optimum is a corner of the box for every free co-batched input.
        free = torch.ones(2, 4, dtype=torch.bool)
        free[rows, slots] = False
        assert ((attacked == 0) | (attacked == 1))[free].all()


def test_copies_fill_a_batch_with_one_input():
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(copies(x, 7), torch.stack([x] * 7, 1))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.tensor([[1.0, 1.0], [0.0, 0.0]]), "with one above 0 in each batch"),
        (torch.tensor([[-1.0, 1.0]]), r"expected weights \[G, K\] >= 0"),
    ],
)
def test_wrong_weights_are_refused(linear, weights, message):
    with pytest.raises(ValueError, match=message):
        FreshDraws(linear().oracle, weights=weights)


def test_weights_of_another_shape_are_refused(linear):
    problem = linear(batches=2)
    estimator = FreshDraws(problem.oracle, weights=torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"expected weights \(2, 4\), got \(2, 3\)"):
        estimator.gradient(problem.x, problem.y, margin_loss)
