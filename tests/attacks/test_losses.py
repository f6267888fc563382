import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import losses

LOGITS = torch.tensor([[4.0, 1.0, 2.0, 0.0], [4.0, 1.0, 2.0, 0.0]])
Y = torch.tensor([0, 2])


def test_known_values():
    torch.testing.assert_close(losses.margin_loss(LOGITS, Y), torch.tensor([2.0 - 4.0, 4.0 - 2.0]))
    # Sorted: 4, 2, 1, 0; largest less third is 3.
    torch.testing.assert_close(losses.dlr(LOGITS, Y), torch.tensor([-2.0 / 3.0, 2.0 / 3.0]))
    # Towards class 1: (1 - true) / (4 - (1 + 0) / 2).
    pairs = torch.stack([Y, torch.tensor([1, 1])], -1)
    torch.testing.assert_close(losses.targeted_dlr(LOGITS, pairs), torch.tensor([-3.0 / 3.5, -1.0 / 3.5]))
    # Cross-entropy as if there were no other class than these two.
    both = LOGITS.gather(-1, pairs).log_softmax(-1)[:, 0]
    torch.testing.assert_close(losses.pair_loss(LOGITS, pairs), -both)
    torch.testing.assert_close(losses.cross_entropy(LOGITS, Y), -LOGITS.log_softmax(-1)[torch.arange(2), Y])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999), scale=st.floats(0.1, 50), shift=st.floats(-50, 50), classes=st.integers(4, 12)
)
def test_dlr_ignores_scale_and_shift(seed, scale, shift, classes):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, classes, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (2, 5), generator=generator)
    torch.testing.assert_close(losses.dlr(scale * logits + shift, y), losses.dlr(logits, y))
    # Bounded by 1 while the answer is right.
    right = logits.argmax(-1)
    assert (losses.dlr(logits, right) <= 0).all() and (losses.dlr(logits, right) >= -1).all()


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
@pytest.mark.parametrize("name", ["ce", "margin", "dlr"])
def test_shapes_and_finite_gradients_for_any_number_of_classes(classes, name):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 5, classes, generator=generator).requires_grad_()
    y = torch.randint(classes, (3, 2, 5), generator=generator)
    loss = losses.BY_NAME[name](logits, y)
    assert loss.shape == y.shape
    assert torch.autograd.grad(loss.sum(), logits)[0].isfinite().all()


@pytest.mark.parametrize("classes", [2, 3])
def test_dlr_with_few_classes_is_the_margin(classes):
    logits, y = LOGITS[:, :classes], torch.tensor([0, 1])
    torch.testing.assert_close(losses.dlr(logits, y), losses.margin_loss(logits, y))
    pairs = torch.stack([y, 1 - y], -1)
    gain = logits.gather(-1, pairs)
    torch.testing.assert_close(losses.targeted_dlr(logits, pairs), gain[:, 1] - gain[:, 0])
