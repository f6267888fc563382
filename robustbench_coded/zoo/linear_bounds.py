"""What no perturbation can bring a small convolutional network below: linear bounds, layer by layer.

CROWN (arXiv 1811.00866): every ReLU whose input can have either sign is held between two lines, so that a
margin, followed backwards through the network, is bounded by a linear function of the pixels, whose smallest
value in a box is exact. Bounds on the inputs of each ReLU come the same way from the layers before it. All of
it in float64; a margin must exceed rounding by far to count.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.models.architectures.digits_cnn import DigitsCNN
from robustbench_coded.models.pixel_model import PixelModel

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
