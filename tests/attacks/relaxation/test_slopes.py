"""Closed forms of the backwards, chain rule included."""

import pytest
import torch
from torch.nn import functional as F

from attacks.relaxation import Relaxation


def gradient(function, x, *, weights=None):
    relaxation = Relaxation()

    def answer():
        leaf = x.clone().requires_grad_()
        with relaxation.forward():
            out = function(leaf.view_as(leaf)).float()
        up = torch.ones_like(out) if weights is None else weights
        return torch.autograd.grad((out * up).sum(), leaf)[0]

    found = relaxation.attempt(answer)
    assert relaxation.level == 0
    return found


def own_gradient(function, x, weights=1.0):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad((function(leaf) * weights).sum(), leaf)[0]


@pytest.fixture
def z():
    return torch.randn(7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax], ids=lambda f: f.__name__)
def test_softmax_has_the_slope_of_the_one_at_the_scale_of_its_inputs_divided_by_that_scale(z, function):
    weights = torch.randn(7, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    big = 1000 * z
    tau = (big - big.mean(1, keepdim=True)).abs().mean(1, keepdim=True)
    # The chain rule through z / tau is torch's own here.
    expected = own_gradient(lambda x: function(x / tau, 1), big, weights)
    found = gradient(lambda x: function(x, 1).double(), big, weights=weights)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)


def test_a_temperature_before_softmax_changes_nothing_about_the_gradient_that_arrives(z):
    weights = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    x = z.float()
    hot = gradient(lambda x: (x / 0.001).softmax(1), x, weights=weights)
    hotter = gradient(lambda x: (x / 0.0001).softmax(1), x, weights=weights)
    torch.testing.assert_close(hot, hotter, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("function", [torch.sigmoid, torch.tanh], ids=lambda f: f.__name__)
def test_elementwise_slopes_at_scale(function):
    x = 1e4 * torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    scale = x.abs().mean(1, keepdim=True)
    expected = own_gradient(lambda x: function(x / scale), x)
    torch.testing.assert_close(gradient(function, x), expected, rtol=1e-4, atol=1e-12)


def test_the_scale_is_each_examples_own():
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(0))
    x[1] *= 1e5
    apart = torch.cat([gradient(torch.tanh, row[None]) for row in x])
    torch.testing.assert_close(gradient(torch.tanh, x), apart)


def test_comparison_is_a_sigmoid_at_the_mean_distance():
    x = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    scale = (x - 0.3).abs().mean(1, keepdim=True)
    expected = own_gradient(lambda x: torch.sigmoid((x - 0.3) / scale), x)
    torch.testing.assert_close(gradient(lambda x: (x > 0.3).float(), x), expected)
    torch.testing.assert_close(gradient(lambda x: (x <= 0.3).float(), x), -expected)


def test_where_adds_the_gradient_of_its_condition():
    x = torch.tensor([[0.2, 0.6, 0.9]])
    scale = (x - 0.5).abs().mean()
    slope = torch.sigmoid((x - 0.5) / scale) * torch.sigmoid((0.5 - x) / scale) / scale
    found = gradient(lambda x: torch.where(x > 0.5, 3 * x, x), x)
    expected = torch.where(x > 0.5, 3.0, 1.0) + 2 * x * slope
    torch.testing.assert_close(found, expected)


def test_clamp_keeps_its_slope_inside_and_a_smaller_one_outside():
    x = torch.tensor([[-2.0, 0.25, 0.5, 3.0]])
    found = gradient(lambda x: x.clamp(0, 1), x)[0]
    assert found[1] == found[2] == 1
    scale = (x - x.mean()).abs().mean()
    torch.testing.assert_close(found[0], 1 / (2 * (2 + scale)))
    torch.testing.assert_close(found[3], 1 / (2 * (2 + scale)))


@pytest.mark.parametrize(
    "function", [F.relu, F.relu6, lambda x: x.clamp(min=0), F.gelu, F.silu, F.hardswish, F.sigmoid, F.tanh]
)
def test_activations_at_the_scale_of_plain_networks_have_their_own_gradient(function):
    x = 2 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    expected = own_gradient(function, x)
    assert torch.equal(gradient(function, x), expected)


def test_values_read_in_order_keep_their_own_gradient():
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    weights = torch.arange(8.0)
    expected = own_gradient(lambda x: x.sort(1).values * weights, x)
    torch.testing.assert_close(gradient(lambda x: x.gather(1, x.argsort(1)), x, weights=weights), expected)


def test_a_codec_counts_as_the_identity_times_its_slope():
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def halved(x):
        return torch.from_numpy((x.detach().numpy() * 0.5).copy())

    torch.testing.assert_close(gradient(halved, x), torch.full_like(x, 0.5), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["max", "min", "median", "sort"])
def test_a_number_without_an_axis_is_ordered_like_any(name):
    alone = torch.tensor(0.3, requires_grad=True)
    with Relaxation().forward():
        found = getattr(torch, name)(alone, 0)
    torch.testing.assert_close(found[0], torch.tensor(0.3), check_stride=False)


def test_a_number_on_the_bound_of_a_clamp_is_inside():
    x = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
    for clamped in (lambda x: x.round().clamp(0, 1), lambda x: F.hardtanh(x.round(), 0, 1)):
        assert torch.equal(gradient(clamped, x), torch.ones_like(x))
    # A ReLU that is off stays off, and its zeros are the most of it.
    off = torch.cat([-x, x], 1)
    assert torch.equal(gradient(F.relu, off), (off > 0).float())
