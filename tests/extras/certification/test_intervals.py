"""Intervals against hand computation, and what they are taken off for rounding."""

import torch
from torch import nn

from robustbench_coded.extras.certification import bounds
from robustbench_coded.extras.certification.affine import Bend
from robustbench_coded.extras.certification.bounds import (
    BEYOND,
    BEYOND_SHARE,
    Region,
    intervals,
    margins_from_logits,
    off_by_rounding,
)
from robustbench_coded.extras.certification.graph import graph_of
from robustbench_coded.models.architectures.digits_cnn import DigitsCNN
from robustbench_coded.models.architectures.resnet_cifar import ResNetCifar
from robustbench_coded.models.pixel_model import PixelModel
from tests.extras.certification.conftest import images, seeded


def test_by_hand():
    """Two pixels at 0.5 within 0.1; hidden a = p - q, b = p + q - 1; logits (a + 2 b, -a)."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).requires_grad_(False)
    net[1].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    net[1].bias.copy_(torch.tensor([0.0, -1.0]))
    net[3].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
    net[3].bias.zero_()
    x = torch.full((2, 1, 1, 2), 0.5)
    found = intervals(graph_of(net, x), Region.around(x, "linf", 0.1))
    e = 0.2 * (1 + BEYOND_SHARE) + 2 * BEYOND  # a and b lie in [-e, e], their ReLUs in [0, e]
    torch.testing.assert_close(found[2][0][0], torch.tensor([-e, -e], dtype=torch.float64))
    torch.testing.assert_close(found[-1][0][0], torch.tensor([0.0, -e], dtype=torch.float64))
    torch.testing.assert_close(found[-1][1][0], torch.tensor([3 * e, 0.0], dtype=torch.float64))
    leads = margins_from_logits(*found[-1], torch.tensor([0, 1]))
    expected = torch.tensor([[torch.inf, 0.0], [-4 * e, torch.inf]], dtype=torch.float64)
    torch.testing.assert_close(leads, expected)


def test_the_box_cuts_the_ball():
    x = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    for norm in ("linf", "l2"):
        region = Region.around(x, norm, 0.3)
        assert region.low.flatten().tolist()[0] == 0 and region.high.flatten().tolist()[1] == 1
        assert region.high.flatten()[0] >= 0.3 and region.low.flatten()[1] <= 0.7
        # Against the box, only one of two pixels can move up: the bound knows.
        a = torch.tensor([-1.0, -1.0], dtype=torch.float64).view(1, 1, 1, 1, 2)
        assert abs(region.least(a).item() + 1.3) < 1e-5


def test_normalized_eps_is_in_units_of_each_channel():
    x = torch.full((1, 2, 1, 1), 0.5)
    region = Region.around(x, "linf", 0.5, torch.tensor([0.2, 0.4]))
    torch.testing.assert_close(
        region.high.flatten(), torch.tensor([0.6, 0.7], dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_bend_intervals_and_lines_hold_everywhere():
    points = torch.linspace(-1, 1, 201, dtype=torch.float64)
    for slope in (0.0, 0.1, -1.0, -0.5, 1.0):
        bend = Bend(slope)
        for low, high in ((-0.8, 0.3), (-0.2, 0.9), (0.1, 0.5), (-0.5, -0.1)):
            at = points[(points >= low) & (points <= high)]
            ends = torch.tensor([low], dtype=torch.float64), torch.tensor([high], dtype=torch.float64)
            least, most = bend.interval(*ends)
            value = bend.forward(at)
            assert least <= value.min() + 1e-12 and most >= value.max() - 1e-12
            for parallel in (False, True):
                lines = bend.lines(*ends, parallel=parallel)
                assert (lines.below_slope * at <= value + 1e-12).all()
                assert (lines.above_slope * at + lines.above_offset >= value - 1e-12).all()


def test_float32_stays_within_what_rounding_allows():
    for made in (DigitsCNN(classes=3, width=4), ResNetCifar(classes=3, in_channels=1, depth=8)):
        model = PixelModel(seeded(made, 2), (0.3,), (0.02,), classes=3, arch="test")
        x = images(64, 1, 8, 8)
        exact = graph_of(model, x).logits(x.double())
        off = (model(x).double() - exact).abs()
        assert (off <= off_by_rounding(exact) / 2).all()  # of two logits of a margin
        assert off.max() > 0  # there is something to allow for


def test_what_is_certified_takes_rounding_off(monkeypatch):
    model = PixelModel(seeded(DigitsCNN(classes=3, width=2)), (0.3,), (0.4,), classes=3, arch="test")
    x = images(4, 1, 8, 8)
    y = model(x).argmax(1)
    graph, region = graph_of(model, x), Region.around(x, "linf", 0.01)
    found = bounds.least_margins(graph, region, y)
    monkeypatch.setattr(bounds, "off_by_rounding", lambda logits: torch.full_like(logits[:, :1], 20.0))
    off = bounds.least_margins(graph, region, y)
    finite = found.isfinite()
    assert (off[finite] <= found[finite] - 19).all()
