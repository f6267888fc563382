"""The order of images that batch-norms are shown: every beginning stands for all."""

import pytest
import torch

from robustbench_coded.data.representative import representative_order


def images(n, channels=3):
    """Of a brightness and a contrast of their own."""
    generator = torch.Generator().manual_seed(4)
    brightness, contrast = (torch.rand(n, 1, 1, 1, generator=generator) for _ in range(2))
    noise = torch.rand(n, channels, 8, 8, generator=generator) - 0.5
    return (brightness + contrast * noise).clamp(0, 1)


@pytest.mark.parametrize("count", [64, 128])
def test_every_beginning_has_the_mean_brightness_and_contrast_of_all(count):
    x = images(800)
    facts = torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1)
    error = facts.std(0) / count**0.5  # of so many that are drawn blindly
    found = facts[representative_order(x, 512)[:count]].mean(0)
    assert float(((found - facts.mean(0)) / error).abs().max()) < 0.35
    # Images inside a block are as different as all are: it is not the most ordinary ones that are taken.
    assert float(facts[representative_order(x, count)].std(0).div(facts.std(0)).min()) > 0.75


@pytest.mark.parametrize(("n", "count"), [(1, 512), (20, 512), (40, 8), (100, 70), (1200, 512)])
def test_each_image_once_and_the_same_each_time(n, count):
    x = images(n, channels=1)
    order = representative_order(x, count)
    assert len(order) == min(n, count) == len(order.unique())
    assert torch.equal(order, representative_order(x, count))
