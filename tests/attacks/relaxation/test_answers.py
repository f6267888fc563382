"""Answers that leave torch or its functions on their way, and come back with a gradient."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.relaxation import Relaxation

_GENERATOR = torch.Generator().manual_seed(0)
N, PIXELS, CLASSES = 12, 16, 5
W = 2 * torch.randn(PIXELS, CLASSES, generator=_GENERATOR)
X = torch.rand(N, PIXELS, generator=_GENERATOR)
STORED = torch.rand(400, PIXELS, generator=_GENERATOR)
LABELS = ((STORED - 0.5) @ W).argmax(1)


def scores(x: Tensor) -> Tensor:
    return (x - 0.5) @ W


def eight_bits(x):
    return scores(x.to(torch.float8_e4m3fn).float() * 1e-4)


def strong_waves(x):
    waves = torch.fft.fft(x)
    weak = waves.abs() <= waves.abs().kthvalue(4, 1, keepdim=True).values
    return scores(torch.fft.ifft(torch.where(weak, torch.zeros((), dtype=waves.dtype), waves)).real)


DEFENCES = [eight_bits, strong_waves]


def relaxed_gradient(defence, x, y, relaxation):
    """Of the cross-entropy, as the estimators ask for it."""

    def answer():
        leaf = x.clone().requires_grad_()
        with relaxation.forward():
            out = defence(leaf.view_as(leaf))
            loss = F.cross_entropy(out, y, reduction="sum") + 0 * leaf.sum()
        return out.detach(), torch.autograd.grad(loss, leaf)[0].nan_to_num()

    return relaxation.attempt(answer)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:None of the inputs")
@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.__name__)
def test_the_answer_is_kept_and_its_gradient_lowers_the_score_of_the_label(defence):
    y = scores(X).argmax(1)
    relaxation = Relaxation(measuring=True)
    out, grad = relaxed_gradient(defence, X, y, relaxation)
    assert torch.equal(out, defence(X))
    assert relaxation.level == 0 and relaxation.record.operators

    # A step along it costs the label more than half of what the bare scores' own gradient costs it.
    bare = X.clone().requires_grad_()
    (own,) = torch.autograd.grad(F.cross_entropy(scores(bare), y, reduction="sum"), bare)
    fall = [margin(X, y) - margin(X + 0.02 * g.sign(), y) for g in (grad, own)]
    assert fall[0] > 0.5 * fall[1] > 0


def margin(x, y):
    z = scores(x)
    others = z.scatter(1, y[:, None], -torch.inf).amax(1)
    return float((z.gather(1, y[:, None])[:, 0] - others).mean())


def test_a_tensor_that_the_defence_keeps_is_not_taken_for_what_left_in_an_earlier_forward():
    kept = X.clone()

    def defence(x):
        x.detach().numpy()
        return scores(kept) + scores(x)

    relaxation = Relaxation()
    for _ in range(2):
        leaf = X.clone().requires_grad_()
        with relaxation.forward():
            out = defence(leaf.view_as(leaf))
        (grad,) = torch.autograd.grad(out.sum(), leaf)
        torch.testing.assert_close(grad, 2 * W.sum(1).expand_as(grad))
