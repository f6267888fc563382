"""Randomised smoothing (arXiv 1902.02918) of a striped classifier, with its certificate and its exact truth.

The base classifier looks at t = u . (x - 0.5) alone, ||u||_2 = 1, and answers by the parity of the stripe of
width w that t lies in. Each answer is a majority vote over v noisy copies (v odd).

Truth: a copy votes for class y with probability p(t), the normal probability of y's stripes around t, and
votes are independent. So an input is right with probability P(Binomial(v, p(t)) > v / 2), which grows with p.
An l2 perturbation of size eps moves t anywhere in [t - eps, t + eps] and does nothing else, so with the noise
unknown the truth is the binomial tail at the smallest p there: a search along one line, its grid error
bounded by the slope of p, at most 1 / (sigma sqrt(2 pi)). Where the noise is known the attacker can do no
worse; no lower bound is given there. Images stay away from the box.

The certificate of the paper (theorem 1) needs p at the clean input alone: p falls to no less than
Phi(Phi^-1(p) - eps / sigma). ``certified`` puts that into the binomial tail; it must lie below the truth.
"""

import torch
from scipy.special import bdtrc
from torch import Tensor, nn
from torch.special import ndtr, ndtri

from robustbench_coded.defences.noise import standard_normal
from robustbench_coded.zoo.known import Known, Truth, exactly
from robustbench_coded.zoo.linear import PIXELS, pattern, planted_margins, spread

STRIPES = 6  # on either side; the chance of a noisy copy further out is below 1e-16
GRID = 501


class Stripes(nn.Module):
    """Logits (-g, g) with g = gain * sin(pi t / width): class 1 in every other stripe.

    Args:
        u: unit vector [1, 8, 8].
        width: of a stripe, in l2 distance.
    """

    u: Tensor

    def __init__(self, u: Tensor, width: float, gain: float = 3.0):
        super().__init__()
        self.register_buffer("u", u)
        self.width = width
        self.gain = gain

    def position(self, x: Tensor) -> Tensor:
        """t = u . (x - 0.5), [k]."""
        return ((x - 0.5) * self.u.to(x)).flatten(1).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        g = self.gain * torch.sin(torch.pi * self.position(x) / self.width)
        return torch.stack([-g, g], dim=-1)


class Smoothed:
    """Majority vote over ``votes`` noisy copies; a draw is the seed of the noise.

    The votes are counted, which has no gradient; the backward pass takes that of the mean probabilities.
    """

    randomised = True
    batch_dependent = False
    base: nn.Module | None = None

    def __init__(self, model: Stripes, sigma: float, votes: int, name: str = "smoothing"):
        self.name = name
        self.model = model
        self.sigma = sigma
        self.votes = votes

    def images(self, k: int) -> int:
        return k * self.votes

    def sample(self, generator: torch.Generator, k: int) -> int:
        return int(torch.randint(2**31, (), generator=generator))

    def logits(self, x: Tensor, draw: int) -> Tensor:
        noise = standard_normal(draw, (self.votes, *x.shape)).to(x)
        logits = self.model((x + self.sigma * noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
        soft = logits.softmax(-1).mean(0)
        share = (logits == logits.amax(-1, keepdim=True)).to(soft).mean(0)
        return 10 * (soft + (share - soft).detach())


def known(n: int = 640, eps: float = 0.25, votes: int = 11) -> Known:
    """Inputs in stripes 6 eps wide, eps or more from their edges, under noise of deviation 2.5 eps."""
    defence = Smoothed(_stripes(eps), sigma=2.5 * eps, votes=votes)
    return _known(defence, spread(1.2 * eps, 4.8 * eps, n), eps)


def known_thin(n: int = 640, eps: float = 0.25, votes: int = 11) -> Known:
    """Inputs within 0.6 eps of an edge, under noise of deviation 0.15 eps: noise that protects nothing."""
    defence = Smoothed(_stripes(eps), sigma=0.15 * eps, votes=votes, name="smoothing-thin")
    return _known(defence, spread(0.25 * eps, 0.6 * eps, n), eps)


def _stripes(eps: float) -> Stripes:
    return Stripes(pattern(36) / PIXELS**0.5, width=6 * eps)


def _known(defence: Smoothed, positions: Tensor, eps: float) -> Known:
    """The truth where inputs lie at ``positions`` to the right of 0 (class 1) or to its left."""
    u = defence.model.u
    # A margin along the pattern moves t by 8 times as much. y = 1 to the right of 0, as the stripes have it.
    x, y = planted_margins(positions / 8, pattern(36))
    t = (x.double() * u.double()).flatten(1).sum(1) - 0.5 * float(u.sum())
    steps = torch.linspace(-eps, eps, GRID, dtype=torch.float64)
    smallest = share_of_votes(defence, t[:, None] + steps, y[:, None]).amin(1)
    slack = (2 * eps / (GRID - 1) / 2) / (defence.sigma * (2 * torch.pi) ** 0.5)
    unknown = Truth(_majority(defence, smallest - slack), _majority(defence, smallest))
    clean = exactly(_majority(defence, share_of_votes(defence, t, y)))
    known_draw = Truth(0.0, unknown.high)
    return Known(
        defence, x, y, 128, clean, lambda threat: known_draw if threat.endswith("/known") else unknown
    )


def share_of_votes(defence: Smoothed, t: Tensor, y: Tensor) -> Tensor:
    """p: the probability that a noisy copy of an input at ``t`` votes for ``y``, float64 like t."""
    edges = defence.model.width * torch.arange(-STRIPES, STRIPES + 1, dtype=torch.float64)
    within = ndtr((edges - t.unsqueeze(-1)) / defence.sigma).diff(dim=-1)
    # The stripe from 0 on is number STRIPES, an even one: class 1.
    ones = within[..., STRIPES % 2 :: 2].sum(-1)
    return torch.where(y == 1, ones, 1 - ones)


def certified(defence: Smoothed, x: Tensor, y: Tensor, eps: float) -> float:
    """The accuracy that the paper's certificate guarantees against l2 perturbations of ``eps``."""
    p = share_of_votes(defence, defence.model.position(x.double()), y)
    return _majority(defence, ndtr(ndtri(p) - eps / defence.sigma))


def _majority(defence: Smoothed, p: Tensor) -> float:
    return float(bdtrc(defence.votes // 2, defence.votes, p.double().clamp(0, 1).numpy()).mean())
