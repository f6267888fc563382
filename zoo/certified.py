"""Defences with certificates in l2: Gaussian smoothing (arXiv 1902.02918) and a 1-Lipschitz network."""

import torch
from scipy.special import bdtrc
from torch import Tensor, nn
from torch.special import ndtr

from robustbench_coded.defences.protocol import Deterministic
from robustbench_coded.extras.published.smoothing import RandomisedSmoothing
from zoo.known import Known, Truth, exactly
from zoo.linear import GAIN, PIXELS, SIDE, pattern, planted_margins, spread, two_logits

# Randomised smoothing (arXiv 1902.02918) of a striped classifier, with its certificate and its exact truth.
#
# The base classifier looks at t = u . (x - 0.5) alone, ||u||_2 = 1, and answers by the parity of the stripe
# of width w that t lies in. Each answer is a majority vote over v noisy copies (v odd).
#
# Truth: a copy votes for class y with probability p(t), the normal probability of y's stripes around t, and
# votes are independent. So an input is right with probability P(Binomial(v, p(t)) > v / 2), which grows with
# p. An l2 perturbation of size eps moves t anywhere in [t - eps, t + eps] and does nothing else, so with the
# noise unknown the truth is the binomial tail at the smallest p there: a search along one line, its grid
# error bounded by the slope of p, at most 1 / (sigma sqrt(2 pi)). Where the noise is known the attacker can
# do no worse; no lower bound is given there. Images stay away from the box.
#
# The certificate of the paper (theorem 1) needs p at the clean input alone: p falls to no less than
# Phi(Phi^-1(p) - eps / sigma). In the binomial tail, that lies below the truth.


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


class Smoothed(RandomisedSmoothing):
    """The published defence around stripes; it offers no base."""

    model: Stripes

    def __init__(self, model: Stripes, sigma: float, votes: int, name: str = "smoothing"):
        super().__init__(model, sigma, votes)
        self.name, self.base = name, None


def known_smoothing(n: int = 640, eps: float = 0.25, votes: int = 11) -> Known:
    """Inputs in stripes 6 eps wide, eps or more from their edges, under noise of deviation 2.5 eps."""
    defence = Smoothed(_stripes(eps), sigma=2.5 * eps, votes=votes)
    return _known_smoothing(defence, spread(1.2 * eps, 4.8 * eps, n), eps)


def known_smoothing_thin(n: int = 640, eps: float = 0.25, votes: int = 11) -> Known:
    """Inputs within 0.6 eps of an edge, under noise of deviation 0.15 eps: noise that protects nothing."""
    defence = Smoothed(_stripes(eps), sigma=0.15 * eps, votes=votes, name="smoothing-thin")
    return _known_smoothing(defence, spread(0.25 * eps, 0.6 * eps, n), eps)


def _stripes(eps: float) -> Stripes:
    return Stripes(pattern(36) / PIXELS**0.5, width=6 * eps)


def _known_smoothing(defence: Smoothed, positions: Tensor, eps: float) -> Known:
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
    return Known(defence, x, y, clean, lambda threat: known_draw if threat.endswith("/known") else unknown)


def share_of_votes(defence: Smoothed, t: Tensor, y: Tensor) -> Tensor:
    """p: the probability that a noisy copy of an input at ``t`` votes for ``y``, float64 like t."""
    edges = defence.model.width * torch.arange(-STRIPES, STRIPES + 1, dtype=torch.float64)
    within = ndtr((edges - t.unsqueeze(-1)) / defence.sigma).diff(dim=-1)
    # The stripe from 0 on is number STRIPES, an even one: class 1.
    ones = within[..., STRIPES % 2 :: 2].sum(-1)
    return torch.where(y == 1, ones, 1 - ones)


def _majority(defence: Smoothed, p: Tensor) -> float:
    return float(bdtrc(defence.votes // 2, defence.votes, p.double().clamp(0, 1).numpy()).mean())


# A network that no perturbation moves by more than its own size: orthogonal layers and absolute values.
#
# Score f(x) = v . |Q2 |Q1 (x - 0.5)|| + b with orthogonal Q1, Q2 and a unit vector v. Every layer keeps or
# shortens distances, so |f(x + d) - f(x)| <= ||d||_2 and an input whose margin exceeds eps is right under any
# l2 perturbation of size eps: the lower bound. Almost everywhere the gradient has length 1, so that a step of
# eps against the margin takes off nearly eps: inputs that such steps break are the upper bound. The
# certificate needs no box, and the steps stay in it.


STEPS = 20


class Lipschitz(nn.Module):
    """Logits (-s/2, s/2) with s = gain * f(x); the gain changes no answer."""

    q1: Tensor
    q2: Tensor
    v: Tensor

    def __init__(self, q1: Tensor, q2: Tensor, v: Tensor, bias: float, gain: float = GAIN):
        super().__init__()
        for name, matrix in {"q1": q1, "q2": q2, "v": v}.items():
            self.register_buffer(name, matrix)
        self.bias = bias
        self.gain = gain

    def score(self, x: Tensor) -> Tensor:
        """f(x), [k]."""
        h = ((x - 0.5).flatten(1) @ self.q1.to(x).T).abs()
        return (h @ self.q2.to(x).T).abs() @ self.v.to(x) + self.bias

    def forward(self, x: Tensor) -> Tensor:
        return two_logits(self.gain * self.score(x))


class LipschitzDefence(Deterministic):
    """The network alone, with no other model underneath."""

    def __init__(self, model: Lipschitz, name: str):
        self.name = name
        self.model = model

    def logits(self, x: Tensor, draw: None) -> Tensor:
        return self.model(x)


def known_lipschitz(n: int = 640, eps: float = 0.25) -> Known:
    """Images moved away from the boundary by up to 3 eps."""
    return _known_lipschitz("lipschitz", n, eps, away=3 * eps)


def known_lipschitz_narrow(n: int = 640, eps: float = 0.25) -> Known:
    """Images left within half of eps of the boundary: the certificate has nothing to say of them."""
    return _known_lipschitz("lipschitz-narrow", n, eps, away=0.0, within=0.5 * eps)


def _known_lipschitz(
    name: str, n: int, eps: float, away: float, within: float | None = None, seed: int = 4
) -> Known:
    """Random images, moved away from the boundary by up to ``away``; labels are the network's own.

    Args:
        within: images further from the boundary are moved to at most this distance.
    """
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(2, PIXELS, PIXELS, generator=generator, dtype=torch.float64)
    q1, q2 = torch.linalg.qr(gaussian).Q
    v = nn.functional.normalize(torch.randn(PIXELS, generator=generator, dtype=torch.float64), dim=0)
    x = 0.2 + 0.6 * torch.rand(n, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    precise = Lipschitz(q1, q2, v, -Lipschitz(q1, q2, v, 0.0).score(x).median().item())
    y = (precise.score(x) > 0).long()
    x = _against_margin(precise, x, y, -away * torch.rand(n, generator=generator, dtype=torch.float64))
    if within is not None:
        far = (_margin(precise, x, y) - within).clamp(min=0)
        x = _against_margin(precise, x, y, far)
    x = (x.clamp(0, 1) * 255).round() / 255
    y = (precise.score(x) > 0).long()
    bounds = Truth(_certified(precise, x, y, eps), _after_steps(precise, x, y, eps))
    model = Lipschitz(q1.float(), q2.float(), v.float(), precise.bias)
    return Known(LipschitzDefence(model, name), x.float(), y, exactly(1.0), lambda threat: bounds)


def _margin(model: Lipschitz, x: Tensor, y: Tensor) -> Tensor:
    return model.score(x) * (2 * y - 1)


def _certified(model: Lipschitz, x: Tensor, y: Tensor, eps: float) -> float:
    return (_margin(model, x, y) > eps).double().mean().item()


def _after_steps(model: Lipschitz, x: Tensor, y: Tensor, eps: float) -> float:
    """Share of inputs still right after steps of eps/5 against the margin, kept in the ball and the box."""
    at, right = x, torch.ones(len(x), dtype=torch.bool)
    for _ in range(STEPS):
        moved = _against_margin(model, at, y, torch.full_like(y, eps / 5, dtype=x.dtype)) - x
        # Shrinking towards x first and clipping after it stays in the ball: the box contains x.
        size = moved.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        at = (x + moved * (eps / size.clamp(min=eps))).clamp(0, 1)
        right &= _margin(model, at, y) > 0
    return right.double().mean().item()


def _against_margin(model: Lipschitz, x: Tensor, y: Tensor, size: Tensor) -> Tensor:
    """x moved by l2 distances ``size`` [n] down the slope of its margin; up, where they are negative."""
    at = x.detach().requires_grad_()
    (grad,) = torch.autograd.grad(_margin(model, at, y).sum(), at)
    length = grad.flatten(1).norm(dim=1).clamp(min=1e-12)
    return x - (size / length).view(-1, 1, 1, 1) * grad
