"""Defences that hide their gradient in one operator each, and are as robust as their margins are."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences.sampling import SamplingModule
from zoo import linear
from zoo.known import Known, everywhere, exactly

DECOY = 1e-3  # share of a slope that stays, on the first row of pixels alone


class SilentSign(torch.autograd.Function):
    """Signs, with a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        return u.sign()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return torch.zeros_like(grads[0])


class LyingSteps(torch.autograd.Function):
    """Rounds to eighths, with a gradient of the opposite sign in every second pixel."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        return ((8 * u).floor() + 0.5) / 8

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        turned = torch.ones_like(grads[0])
        turned[:, ::2] = -1.0
        return grads[0] * turned


def silent_backward(u: Tensor) -> Tensor:
    return SilentSign.apply(u).mean(1)


def lying_backward(u: Tensor) -> Tensor:
    return LyingSteps.apply(u).mean(1)


def detached(u: Tensor) -> Tensor:
    """All of the score but a thousandth of the first row is detached."""
    return u.detach().mean(1) + DECOY * u[:, :8].mean(1)


def without_graph(u: Tensor) -> Tensor:
    """Rounded under no_grad."""
    with torch.no_grad():
        steps = (8 * u + 0.5).round() - 0.5
    return steps.mean(1) + DECOY * u[:, :8].mean(1)


def through_numpy(u: Tensor) -> Tensor:
    steps = np.floor(8 * u.detach().cpu().numpy()) + 0.5
    return torch.from_numpy(steps).to(u).mean(1)


def in_python(u: Tensor) -> Tensor:
    """Pixels above zero, counted in Python: no gradient comes back in any way."""
    return u.new_tensor([sum(value > 0 for value in image) / len(image) - 0.5 for image in u.tolist()])


# Scores of signed pixels through one operator that has no useful slope. None falls as a pixel grows.
#
# Each function takes u [k, 64] in [-0.5, 0.5] and returns [k]. Most count pixels or blocks that are above
# zero.


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


# Two classes by a score that grows with every signed pixel, whatever operators it is made of.
#
# Signed pixels are u = pattern * (x - 0.5), so that class 1 has large ones and class 0 small ones. If the
# score never falls as any u grows, the worst point of an l-infinity ball is its corner against the label,
# which lies in the box, too, once it is cut to it. So robust accuracy is what the defence leaves at that one
# point, exactly. A perturbation is the same before and after a draw, hence this holds under all threat
# models.


Score = Callable[[Tensor], Tensor]  # signed pixels [k, 64] in [-0.5, 0.5] -> scores [k]

ROW = 63  # of the pattern that every entry looks for
TEXTURE = 0.05  # finer than the margins: pixels of an image mostly agree on its class


class Monotone(nn.Module):
    """Logits of a score of signed pixels; class 1 where the score is positive."""

    direction: Tensor

    def __init__(self, score: Score):
        super().__init__()
        self.register_buffer("direction", linear.pattern(ROW))
        self.score = score

    def forward(self, x: Tensor) -> Tensor:
        return linear.two_logits(linear.GAIN * self.score(signed(x, self.direction)))


def signed(x: Tensor, direction: Tensor) -> Tensor:
    """Images [k, 1, 8, 8] as signed pixels [k, 64]."""
    return ((x - 0.5) * direction.to(x)).flatten(1)


def images(n: int, eps: float, *, wide: bool) -> linear.Planted:
    """Margins of 0.25 to 0.6 eps, or 1.4 to 2.2 eps for four images in five."""
    narrow = linear.spread(0.25 * eps, 0.6 * eps, n)
    if not wide:
        return linear.planted_margins(narrow, linear.pattern(ROW), texture=TEXTURE)
    distances = linear.spread(1.4 * eps, 2.2 * eps, n)
    distances[::5] = narrow[::5]
    return linear.planted_margins(distances, linear.pattern(ROW), texture=TEXTURE)


def corner(x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The point of the ball, within the box, where every signed pixel is furthest from the label's side."""
    return (x + eps * linear.against(y, linear.pattern(ROW))).clamp(0, 1)


def known_monotone(name: str, score: Score, n: int, eps: float, *, wide: bool = False) -> Known:
    """A deterministic defence by a score, with its truth."""
    x, y = images(n, eps, wide=wide)
    defence = linear.Deterministic(name, Monotone(score))

    def accuracy(x: Tensor) -> float:
        return (defence.logits(x, None).argmax(1) == y).double().mean().item()

    robust = exactly(accuracy(corner(x, y, eps)))
    return Known(defence, x, y, exactly(accuracy(x)), everywhere(robust))


# Scores that count bits drawn from signed pixels: a sampled mask, of which more bits are on in class 1.
#
# The bit of pixel u is on with probability p(u) = sigmoid(20 u), independently of the others, and class 1 is
# answered where more than half of the bits are on. Truth: that probability is the upper tail of a Poisson
# binomial distribution, summed up exactly; it grows with every p, so the worst point is the corner against
# the label. Each bit is on where its own random number is below p, or its own noise small enough, so that a
# bit never turns off as its pixel grows, whatever the draw: the corner is best for every draw that is known,
# too.


STEEP = 20.0


def bernoulli(u: Tensor) -> Tensor:
    return torch.bernoulli(torch.sigmoid(STEEP * u)).mean(1) - 0.5


def gumbel(u: Tensor) -> Tensor:
    """The same bits by ``gumbel_softmax(hard=True)``, cut off from its own straight-through gradient."""
    logits = torch.stack([-STEEP * u / 2, STEEP * u / 2], -1)
    return functional.gumbel_softmax(logits, tau=0.01, hard=True)[..., 1].detach().mean(1) - 0.5


def compared(u: Tensor) -> Tensor:
    return (torch.rand_like(u) < torch.sigmoid(STEEP * u)).to(u).mean(1) - 0.5


class Sampled(nn.Module):
    """A score that draws; says nothing about itself."""

    def __init__(self, score: Score):
        super().__init__()
        self.answer = Monotone(score)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x)


def known_sampled(name: str, score: Score, n: int, eps: float, *, wide: bool = False) -> Known:
    """A randomised defence by a score that counts drawn bits, with its truth."""
    x, y = images(n, eps, wide=wide)

    def accuracy(x: Tensor) -> float:
        ones = probability_of_one(torch.sigmoid(STEEP * signed(x.double(), linear.pattern(ROW))))
        return torch.where(y == 1, ones, 1 - ones).mean().item()

    robust = exactly(accuracy(corner(x, y, eps)))
    defence = SamplingModule(Sampled(score), name=name)
    return Known(defence, x, y, exactly(accuracy(x)), everywhere(robust))


def probability_of_one(p: Tensor) -> Tensor:
    """[k] probabilities that more than half of independent bits are on, from theirs [k, 64]."""
    count = torch.zeros(len(p), linear.PIXELS + 1, dtype=p.dtype)
    count[:, 0] = 1.0
    for bit in p.T:
        on = torch.cat([torch.zeros_like(count[:, :1]), count[:, :-1]], 1)
        count = count * (1 - bit[:, None]) + on * bit[:, None]
    return count[:, linear.PIXELS // 2 + 1 :].sum(1)


known_monotone_wide = partial(known_monotone, wide=True)
known_sampled_wide = partial(known_sampled, wide=True)
