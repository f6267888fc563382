from itertools import product

import pytest
import torch

from zoo.linear import LinearModel, along, margins, pattern, planted_margins, spread, worst_margins
from zoo.trained import LinearClassifier, pairwise_margins

EPS = 0.3  # larger than the distance of many pixels to the box


def corners(x, eps):
    """All vertices of ball and box around x [pixels]: a linear function is smallest at one of them."""
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=len(x))))
    return (x + eps * signs).clamp(0, 1)


def test_patterns_are_orthogonal():
    rows = torch.stack([pattern(row).flatten() for row in range(64)])
    assert torch.equal(rows @ rows.T, 64 * torch.eye(64))


def test_worst_margin_is_that_of_the_worst_corner():
    generator = torch.Generator().manual_seed(0)
    model = LinearModel(torch.randn(1, 2, 3, generator=generator), bias=0.2)
    x, y = torch.rand(20, 1, 2, 3, generator=generator), torch.arange(20) % 2
    found = worst_margins(model, x, y, EPS)
    for example, label, worst in zip(x, y, found):
        at = corners(example.flatten(), EPS).view(-1, 1, 2, 3)
        assert worst.item() == pytest.approx(margins(model, at, label.expand(len(at))).min().item(), abs=1e-6)


def test_worst_margin_over_classes_is_that_of_the_worst_corner():
    generator = torch.Generator().manual_seed(0)
    model = LinearClassifier(torch.randn(4, 6, generator=generator), torch.randn(4, generator=generator))
    x, y = torch.rand(20, 1, 2, 3, generator=generator), torch.arange(20) % 4
    found = pairwise_margins(model, x, y, EPS)
    for example, label, worst in zip(x, y, found):
        logits = model(corners(example.flatten(), EPS).view(-1, 1, 2, 3))
        others = logits.clone()
        others[:, label] = -torch.inf
        assert worst.item() == pytest.approx((logits[:, label] - others.amax(1)).min().item(), abs=1e-5)


def test_the_score_is_the_distance_to_the_boundary():
    direction = pattern(9)
    model, wanted = along(direction), spread(0.05, 0.2, 40)
    x, y = planted_margins(wanted, direction, flat_along=[pattern(3)])
    torch.testing.assert_close(margins(model, x, y).float(), wanted, atol=1e-3, rtol=0)
    # Half a step of 1/255 at most in every pixel, on average much less: flat up to rounding of pixels.
    assert along(pattern(3)).score(x).abs().max() < 1e-3
    torch.testing.assert_close(worst_margins(model, x, y, 0.04).float(), margins(model, x, y).float() - 0.04)
    assert torch.equal(model(x).argmax(1), y)


def test_images_outside_the_box_are_refused():
    with pytest.raises(ValueError, match=r"images in \[0, 1\]"):
        planted_margins(torch.full((4,), 0.45), pattern(9))
