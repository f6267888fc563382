"""The wrappers: the network's own class for every input, and slopes that have nothing to do with it."""

import pytest
import torch

from attacks.losses import margin_loss
from zoo import trained
from zoo.registry import ZOO
from zoo.trained import descended

N = 64
WRAPPERS = [
    f"{name}-{eps}" for name in ("one-hot", "pinned", "lifted", "other-base") for eps in (0.1, 0.2, 0.3)
]


@pytest.mark.parametrize("name", WRAPPERS)
def test_every_answer_is_the_networks(name):
    """Near the data, at its own worst points and far from both: the gain is 0 exactly."""
    entry = ZOO[name]
    known = entry.load(N)
    model = known.checkpoint
    generator = torch.Generator().manual_seed(0)
    signs = 2 * torch.randint(2, known.x.shape, generator=generator) - 1
    with torch.no_grad():
        for x in (known.x, (known.x + entry.eps * signs).clamp(0, 1), torch.rand(500, 1, 8, 8)):
            assert torch.equal(known.defence.logits(x, None).argmax(1), model(x).argmax(1))
    assert (known.defence.base is None) == (not name.startswith("other-base"))
    assert known.defence.base is not model


@pytest.mark.parametrize("name", ["one-hot-0.2", "pinned-0.2", "other-base-0.2"])
def test_the_networks_worst_points_are_the_wrappers(name):
    known = ZOO[name].load(N)
    x = descended(known.checkpoint, known.x, known.y, known.x, 0.2, margin_loss)
    assert (known.defence.logits(x, None).argmax(1) == known.y).double().mean() < 0.1
    assert known.truth("batch/unknown").high < 0.1


def test_the_decoy_is_a_model_of_the_digits():
    known = ZOO["one-hot-0.1"].load(256)
    right = (trained.decoy()(known.x).argmax(1) == known.y).double().mean()
    assert 0.85 < right < known.clean.low


@pytest.mark.parametrize("name", ["one-hot-0.2", "pinned-0.2"])
def test_the_slope_is_the_decoys(name):
    known = ZOO[name].load(8)
    weights = torch.arange(10.0).cos()
    found = slope(lambda x: (known.defence.logits(x, None) * weights).sum(), known.x)
    torch.testing.assert_close(found, slope(lambda x: (trained.decoy()(x) * weights).sum(), known.x))


def test_a_lifted_class_leaves_gradients_that_are_no_lie():
    """Differences of the logits follow their gradients, to a step that leaves the class."""
    defence = ZOO["lifted-0.1"].load(8).defence
    x = ZOO["lifted-0.1"].load(8).x.double().float()
    weights = torch.arange(10.0).cos()
    grad = slope(lambda at: (defence.logits(at, None) * weights).sum(), x)
    step = 1e-3 * grad.sign()
    ahead, behind = ((defence.logits(x + way * step, None) * weights).sum(1) for way in (1, -1))
    measured, promised = (ahead - behind) / 2e-3, grad.flatten(1).abs().sum(1)
    torch.testing.assert_close(measured, promised, rtol=0.05, atol=0.01)
    assert (promised > 0.01).all()


def test_the_pinned_margin_is_always_a_tenth():
    known = ZOO["pinned-0.1"].load(8)
    top = known.defence.logits(torch.rand(200, 1, 8, 8), None).topk(2, -1).values
    torch.testing.assert_close(top[:, 0] - top[:, 1], torch.full((200,), 0.1))


def slope(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]
