"""The certificate of the digits network against exact and empirical answers.

The zoo keeps which images are certified. What finds them is here, apart from the product's own bounds
(``certification``), so that neither can hide a fault of the other.
"""

from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.models.architectures.sequential import DigitsCNN
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.zoo import trained
from robustbench_coded.zoo.trained import digits_network, standing_after_descent

# What no perturbation can bring a small convolutional network below: linear bounds, layer by layer.
#
# CROWN (arXiv 1811.00866): every ReLU whose input can have either sign is held between two lines, so that a
# margin, followed backwards through the network, is bounded by a linear function of the pixels, whose
# smallest value in a box is exact. Bounds on the inputs of each ReLU come the same way from the layers before
# it. All of it in float64; a margin must exceed rounding by far to count.


ROUNDING = 1e-4  # of the network's own float32, in logits
AT_ONCE = 16  # images; every neuron of a layer is followed back for each


@dataclass(frozen=True)
class _Conv:
    """A convolution with batch normalisation folded into it."""

    weight: Tensor
    bias: Tensor
    stride: int

    def __call__(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding=1)

    def back(self, a: Tensor, height: int) -> Tensor:
        """Coefficients [n, C_out, ...] of its outputs as those of its inputs, ``height`` pixels high."""
        left = height - ((a.shape[-1] - 1) * self.stride + 1)
        return functional.conv_transpose2d(a, self.weight, None, self.stride, 1, left)


@torch.no_grad()
def certified(model: PixelModel, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Which inputs are right under every l-infinity perturbation of ``eps`` within the box, bool [n].

    Args:
        model: a `DigitsCNN` behind its normalisation.
        x, y: images [n, 1, H, W] in [0, 1] and labels.
    """
    network = model.network
    assert isinstance(network, DigitsCNN)
    convs = [
        _folded(conv, norm)
        for conv, norm in (
            (network.conv1, network.bn1),
            (network.conv2, network.bn2),
            (network.conv3, network.bn3),
        )
    ]
    ends = [((x + way * eps).clamp(0, 1).double() - model.mean) / model.std for way in (-1, 1)]
    parts = zip(*(end.split(AT_ONCE) for end in ends), y.split(AT_ONCE), strict=True)
    found = [
        _smallest_margin(convs, network.linear, low, high, labels).amin(1) > ROUNDING
        for low, high, labels in parts
    ]
    return torch.cat(found)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> _Conv:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).double()
    bias = norm.bias.double() - norm.running_mean.double() * scale
    return _Conv(conv.weight.double() * scale.view(-1, 1, 1, 1), bias, conv.stride[0])


def _smallest_margin(convs: list[_Conv], linear: nn.Linear, low: Tensor, high: Tensor, y: Tensor) -> Tensor:
    """Lower bounds [n, classes] on how far class y is ahead of each; infinite for y itself."""
    bounds: list[tuple[Tensor, Tensor]] = []
    shape = convs[0]((low + high) / 2).shape[1:]
    for depth in range(len(convs)):
        if depth:
            shape = convs[depth](torch.zeros(1, *shape, dtype=low.dtype)).shape[1:]
        size = shape.numel()
        every = torch.eye(size, dtype=low.dtype).view(1, size, *shape)
        least = _lower(convs, bounds, depth, every, low, high)
        most = -_lower(convs, bounds, depth, -every, low, high)
        bounds.append((least.view(-1, *shape), most.view(-1, *shape)))
    weight, bias = linear.weight.double(), linear.bias.double()
    ahead = weight[y][:, None] - weight  # [n, classes, channels], of the mean over pixels
    last = ahead[..., None, None].expand(-1, -1, -1, *shape[1:]) / shape[1:].numel()
    constant = bias[y][:, None] - bias
    a, more = _through_relu(last, *bounds[-1])
    margins = constant + more + _lower(convs, bounds, len(convs) - 1, a, low, high)
    return margins.scatter(1, y[:, None], torch.inf)


def _lower(
    convs: list[_Conv],
    bounds: list[tuple[Tensor, Tensor]],
    depth: int,
    a: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """The least [n, S] that coefficients ``a`` [n or 1, S, C, H, W] of layer ``depth``'s outputs come to."""
    constant = torch.zeros(a.shape[:2], dtype=a.dtype)
    for layer in range(depth, -1, -1):
        constant = constant + (a.sum((3, 4)) * convs[layer].bias).sum(-1)
        height = bounds[layer - 1][0].shape[-1] if layer else low.shape[-1]
        a = convs[layer].back(a.flatten(0, 1), height).unflatten(0, a.shape[:2])
        if layer:
            a, more = _through_relu(a, *bounds[layer - 1])
            constant = constant + more
    middle, radius = ((high + low) / 2).unsqueeze(1), ((high - low) / 2).unsqueeze(1)
    return constant + (a * middle).sum((2, 3, 4)) - (a.abs() * radius).sum((2, 3, 4))


def _through_relu(a: Tensor, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of a ReLU's outputs as coefficients of its inputs, and a constant [n, S]: a lower bound.

    Above, the line through (least, 0) and (most, most); below, the identity or 0, whichever is nearer.
    """
    least, most = least.unsqueeze(1), most.unsqueeze(1)
    either = (least < 0) & (most > 0)
    slope = torch.where(either, most / (most - least).clamp(min=1e-12), (least >= 0).to(a))
    below = torch.where(either, (most > -least).to(a), slope)
    offset = torch.where(either, -slope * least, 0.0)
    constant = (a.clamp(max=0) * offset).sum((2, 3, 4))
    return a.clamp(min=0) * below + a.clamp(max=0) * slope, constant


def small_network(seed):
    torch.manual_seed(seed)  # the global generator of a test process; layers draw from nothing else
    network = DigitsCNN(classes=3, width=2)
    for norm in (network.bn1, network.bn2, network.bn3):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(std=0.3)
    return PixelModel(network, (0.3,), (0.4,), classes=3, arch="digits-cnn")


def smallest(model, x, y, eps):
    """What the bounds say of the margins at one image."""
    found = []
    original = _smallest_margin

    def noted(*arguments):
        found.append(original(*arguments))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "_smallest_margin", noted)
        certified(model, x, y, eps)
    return torch.cat(found).amin(1)


def margins(model, x, y):
    logits = model(x)
    others = logits.scatter(1, y[:, None], -torch.inf)
    return logits.gather(1, y[:, None]).squeeze(1) - others.amax(1)


@pytest.mark.parametrize("seed", range(5))
def test_no_corner_goes_below_the_bound(seed):
    """Images of 3 x 3 pixels: all 512 corners of the box, and points inside."""
    model, eps = small_network(seed), 0.05
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 1, 3, 3, generator=generator)
    y = model(x).argmax(1)
    bound = smallest(model, x, y, eps).item()
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=9))).view(-1, 1, 3, 3)
    inside = 2 * torch.rand(500, 1, 3, 3, generator=generator) - 1
    ball = (x + eps * torch.cat([signs, inside])).clamp(0, 1)
    lowest = margins(model, ball, y.expand(len(ball))).min().item()
    assert bound <= lowest + 1e-5
    assert lowest - bound < 0.5 * (margins(model, x, y).item() - bound) + 1e-4  # and it is not far below


def test_the_bound_is_exact_where_no_relu_changes_sign():
    model = small_network(0)
    x = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    found = smallest(model, x, y, 0.0)
    torch.testing.assert_close(found.float(), margins(model, x, y), atol=1e-5, rtol=1e-4)


def test_a_certificate_with_a_line_too_steep_would_be_noticed():
    """The planted fault: the upper line through the origin, which lies below the ReLU for negative inputs."""
    faulty = []
    for seed in range(5):
        model, eps = small_network(seed), 0.3
        x = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
        y = model(x).argmax(1)
        signs = torch.tensor(list(product((-1.0, 1.0), repeat=9))).view(-1, 1, 3, 3)
        ball = (x + eps * signs).clamp(0, 1)
        lowest = margins(model, ball, y.expand(len(ball))).min().item()
        with pytest.MonkeyPatch.context() as patch:
            original = _through_relu
            patch.setitem(globals(), "_through_relu", lambda *a, of=original: (of(*a)[0], 0.0))
            faulty.append(smallest(model, x, y, eps).item() > lowest + 1e-5)
        assert smallest(model, x, y, eps).item() <= lowest + 1e-5
    assert any(faulty)


def test_the_certificates_kept_are_those_found(soak):
    """Four of the 256 images; all of them, a minute, with --soak."""
    some = range(trained.EXAMPLES if soak else 4)
    model = digits_network(trained.NAME)
    x, y = load_digits("test").batch(some)
    found = (~certified(model, x, y, trained.EPS)).nonzero().squeeze(1).tolist()
    assert found == [i for i in some if i in trained.UNCERTIFIED]
    assert found[:2] == [1, 2]


@pytest.mark.long
def test_what_is_certified_stands_after_descents():
    known = trained.known_pgd_at(n=64)
    stands = standing_after_descent(known.defence.model, known.x, known.y, trained.EPS)
    certain = torch.tensor([i not in trained.UNCERTIFIED for i in range(len(known.x))])
    assert stands[certain].all()
    truth = known.truth("batch/unknown")
    assert 0.7 < truth.low < truth.high < known.clean.high
