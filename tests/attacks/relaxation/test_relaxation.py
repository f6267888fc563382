"""What a defence does not survive is left to it, step by step; what is patched is put back."""

import weakref

import pytest
import torch

from attacks.relaxation import Relaxation
from attacks.relaxation.record import Operator
from attacks.relaxation.stop_gradients import noted


def run(defence, *, measuring=False):
    relaxation = Relaxation(measuring=measuring)
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))

    def answer():
        leaf = x.clone().requires_grad_()
        with relaxation.forward():
            out = defence(leaf.view_as(leaf))
        return out.detach(), torch.autograd.grad(out.sum(), leaf)[0]

    out, grad = relaxation.attempt(answer)
    assert torch.equal(out, defence(x.clone()).detach())
    return grad, relaxation


def purified(x):
    """A step of its own along a gradient, which needs a leaf that detach has made."""
    y = x.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        (y**2).sum().backward()
    return x + 0 * x.round() + y.grad.detach()


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_defence_that_needs_its_cuts_keeps_them_and_nothing_else():
    grad, relaxation = run(purified)
    assert relaxation.level == 2
    assert torch.isfinite(grad).all()


def overwritten(x):
    y = x * 2
    z = y * y  # saves y
    with torch.no_grad():
        y.zero_()
    return z.round() + y


def test_saved_tensors_that_a_defence_overwrites_are_kept_aside():
    grad, relaxation = run(overwritten)
    assert relaxation.level == 1
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grad, 8 * x)


def test_what_is_raised_with_nothing_relaxed_is_raised():
    def broken(x):
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing"):
        run(broken)


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 3 * x

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Right(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


def test_a_wrong_backward_is_replaced_and_reported_and_a_right_one_is_not_reported():
    grad, relaxation = run(Wrong.apply, measuring=True)
    assert torch.equal(grad, torch.full_like(grad, 3.0))
    assert [met.name for met in relaxation.record.hiding()] == ["autograd function Wrong"]
    grad, relaxation = run(Right.apply, measuring=True)
    assert relaxation.record.hiding() == []


def test_what_was_patched_is_as_it_was():
    forward, backward = Wrong.__dict__["forward"], Wrong.__dict__["backward"]
    enter = torch.inference_mode.__enter__
    run(Wrong.apply)
    assert Wrong.__dict__["forward"] is forward and Wrong.__dict__["backward"] is backward
    assert torch.inference_mode.__enter__ is enter
    x = torch.ones(1, requires_grad=True)
    Wrong.apply(x).backward()
    assert x.grad == -1


@pytest.mark.parametrize(("off", "hiding"), [(True, ["inference_mode"]), (False, [])])
def test_leaving_inference_mode_hides_no_gradient(off, hiding):
    def entering(x):
        with torch.inference_mode(off):
            return x**2

    assert [met.name for met in run(entering, measuring=True)[1].record.hiding()] == hiding


def test_random_numbers_are_drawn_as_without_it():
    def noisy(x):
        torch.manual_seed(5)
        return (x + torch.rand_like(x)).round() + torch.bernoulli(x) + Wrong.apply(x) + torch.rand(3, 4)

    with torch.random.fork_rng():
        run(noisy)  # compares the answers


def test_the_graph_behind_a_chosen_place_does_not_keep_it_alive():
    with Relaxation().forward():
        index = (2 * torch.rand(3, 4, requires_grad=True)).topk(2).indices
    alive = weakref.ref(index)
    del index
    assert alive() is None


def test_a_gradient_that_is_not_defined_has_not_flowed():
    met = Operator("no_grad")
    for grad in (None, torch.zeros(2), torch.tensor([0.0, 1.0])):
        noted(met, grad)
    assert met.flowed == 1
