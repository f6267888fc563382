"""Scores of signed pixels through one operator that has no useful slope. None falls as a pixel grows.

Each function takes u [k, 64] in [-0.5, 0.5] and returns [k]. Most count pixels or blocks that are above zero.
"""

import torch
from torch import Tensor
from torch.nn import functional

EXTREME = 1e5  # of a saturated operator's inputs, in units of a pixel
LEVELS = 8  # of quantisers: steps of an eighth
BLOCKS = 8


def blocks(u: Tensor) -> Tensor:
    """Mean of each run of eight pixels, [k, 8]."""
    return u.unflatten(1, (BLOCKS, -1)).mean(2)


def softmax(u: Tensor) -> Tensor:
    mean = EXTREME * blocks(u)
    likely = torch.stack([-mean, mean], -1).softmax(-1)
    return (likely[..., 1] - likely[..., 0]).mean(1)


def sigmoid(u: Tensor) -> Tensor:
    return torch.sigmoid(EXTREME * u).mean(1) - 0.5


def tanh(u: Tensor) -> Tensor:
    return torch.tanh(EXTREME * blocks(u)).mean(1)


def clamp(u: Tensor) -> Tensor:
    """Far outside the range, except for blocks within 1e-5 of zero."""
    return (EXTREME * blocks(u)).clamp(-1, 1).mean(1)


def one_hot_votes(u: Tensor) -> Tensor:
    """Each block's class is its argmax; the score is the difference of votes."""
    mean = blocks(u)
    votes = functional.one_hot(torch.stack([-mean, mean], -1).argmax(-1), 2).to(u).mean(1)
    return votes[:, 1] - votes[:, 0]


def winners(u: Tensor) -> Tensor:
    """k-winners-take-all: of eight blocks and their negatives the five largest fire.

    Where a falling block leaves the winners, the one that enters votes for the other class, or for the same
    one at a tie.
    """
    units = torch.cat([blocks(u), -blocks(u)], 1)
    fire = torch.zeros_like(units).scatter(1, units.topk(5, 1).indices, 1.0)
    return fire[:, :BLOCKS].mean(1) - fire[:, BLOCKS:].mean(1)


def median_filter(u: Tensor) -> Tensor:
    """Medians of 3 x 3 pixels, rounded down."""
    image = functional.pad(u.view(-1, 1, 8, 8), (1, 1, 1, 1), mode="reflect")
    return floor(functional.unfold(image, 3).median(1).values)


def ranks(u: Tensor) -> Tensor:
    """How many pixels come before and after zero in the order of all."""
    with_zero = torch.cat([u, torch.zeros_like(u[:, :1])], 1)
    place = with_zero.argsort(1).argsort(1)[:, -1]
    return 0.5 - place.to(u) / u.shape[1]


def pooled_ties(u: Tensor) -> Tensor:
    """Largest and smallest of 2 x 2 rounded pixels, which often tie."""
    rounded = ((LEVELS * u).round() / LEVELS).view(-1, 1, 8, 8)
    return (functional.max_pool2d(rounded, 2) - functional.max_pool2d(-rounded, 2)).flatten(1).mean(1)


def sign(u: Tensor) -> Tensor:
    return u.sign().mean(1)


def floor(u: Tensor) -> Tensor:
    return ((LEVELS * u).floor() + 0.5).mean(1) / LEVELS


def where(u: Tensor) -> Tensor:
    return torch.where(u > 0, 1.0, -1.0).mean(1)


def assigned(u: Tensor) -> Tensor:
    """A mask written into zeros, in place."""
    votes = torch.zeros_like(u)
    votes[u > 0] = 1.0
    votes[u < 0] -= 1.0
    return votes.mean(1)


def in_place(u: Tensor) -> Tensor:
    votes = u.clone()
    votes.mul_(LEVELS).add_(0.5).round_().sub_(0.5).clamp_(-0.5, 0.5)
    return votes.mean(1)


def thermometer(u: Tensor) -> Tensor:
    """Thermometer code: one bit for each threshold below the pixel, from the number of its bin."""
    edges = torch.linspace(-0.5, 0.5, LEVELS + 1).to(u)[1:-1]
    bins = torch.bucketize(u, edges)
    code = bins[..., None] >= torch.arange(1, LEVELS, device=u.device)
    return code.to(u).mean(-1).mean(1) - 0.5


def nearest_code(u: Tensor) -> Tensor:
    """Each pixel becomes the nearest of four code words."""
    codes = torch.tensor([-0.3, -0.1, 0.1, 0.3]).to(u)
    return codes[(u[..., None] - codes).abs().argmin(-1)].mean(1)


def gathered_code(u: Tensor) -> Tensor:
    """The same, the code words read by gather."""
    codes = torch.tensor([-0.3, -0.1, 0.1, 0.3]).to(u)
    nearest = (u[..., None] - codes).abs().min(-1, keepdim=True).indices
    return codes.expand(*u.shape, -1).gather(-1, nearest)[..., 0].mean(1)


def placed(u: Tensor) -> Tensor:
    """Ones written to the places where a mask is true."""
    votes = -torch.ones_like(u)
    votes[(u > 0).nonzero(as_tuple=True)] = 1.0
    return votes.mean(1)


def majorities(u: Tensor) -> Tensor:
    """Each block's pixels vote for a class, and its majority counts."""
    votes = torch.stack([-u, u], -1).argmax(-1).unflatten(1, (BLOCKS, -1))
    return functional.one_hot(votes[..., :7].mode(-1).values, 2).to(u).mean(1)[:, 1] - 0.5


def two_bounds(u: Tensor) -> Tensor:
    """A cut from below and one from above, each by itself a harmless one."""
    low, high = torch.tensor(-1.0).to(u), torch.tensor(1.0).to(u)
    return torch.minimum(torch.maximum(EXTREME * blocks(u), low), high).mean(1)


def mapped(u: Tensor) -> Tensor:
    """Signs by torch.vmap, one image at a time."""
    return torch.vmap(lambda image: image.sign().mean())(u)


def bit_depth(u: Tensor) -> Tensor:
    """Eight bits, of which the highest three are kept."""
    bits = ((u + 0.5) * 255).to(torch.uint8) >> 5
    return (bits.to(u) + 0.5).mean(1) / LEVELS - 0.5
