"""Scores that count bits drawn from signed pixels: a sampled mask, of which more bits are on in class 1.

The bit of pixel u is on with probability p(u) = sigmoid(20 u), independently of the others, and class 1 is
answered where more than half of the bits are on. Truth: that probability is the upper tail of a Poisson
binomial distribution, summed up exactly; it grows with every p, so the worst point is the corner against the
label. Each bit is on where its own random number is below p, or its own noise small enough, so that a bit
never turns off as its pixel grows, whatever the draw: the corner is best for every draw that is known, too.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.defences.sampling_module import SamplingModule
from robustbench_coded.zoo.known import Known, everywhere, exactly
from robustbench_coded.zoo.linear import PIXELS, pattern
from robustbench_coded.zoo.operators.monotone import Monotone, corner, images, signed

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

    def __init__(self, row: int, score: Callable[[Tensor], Tensor]):
        super().__init__()
        self.answer = Monotone(row, score)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x)


def known_sampled(
    name: str, row: int, score: Callable[[Tensor], Tensor], n: int, eps: float, *, wide: bool = False
) -> Known:
    """A randomised defence by a score that counts drawn bits, with its truth."""
    x, y = images(row, n, eps, wide=wide)

    def accuracy(x: Tensor) -> float:
        ones = probability_of_one(torch.sigmoid(STEEP * signed(x.double(), pattern(row))))
        return torch.where(y == 1, ones, 1 - ones).mean().item()

    robust = exactly(accuracy(corner(x, y, row, eps)))
    defence = SamplingModule(Sampled(row, score), name=name)
    return Known(defence, x, y, 128, exactly(accuracy(x)), everywhere(robust))


def probability_of_one(p: Tensor) -> Tensor:
    """[k] probabilities that more than half of independent bits are on, from theirs [k, 64]."""
    count = torch.zeros(len(p), PIXELS + 1, dtype=p.dtype)
    count[:, 0] = 1.0
    for bit in p.T:
        on = torch.cat([torch.zeros_like(count[:, :1]), count[:, :-1]], 1)
        count = count * (1 - bit[:, None]) + on * bit[:, None]
    return count[:, PIXELS // 2 + 1 :].sum(1)
