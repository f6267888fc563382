"""A network that no perturbation moves by more than its own size: orthogonal layers and absolute values.

Score f(x) = v . |Q2 |Q1 (x - 0.5)|| + b with orthogonal Q1, Q2 and a unit vector v. Every layer keeps or
shortens distances, so |f(x + d) - f(x)| <= ||d||_2 and an input whose margin exceeds eps is right under any
l2 perturbation of size eps: the lower bound. Almost everywhere the gradient has length 1, so that a step of
eps against the margin takes off nearly eps: inputs that such steps break are the upper bound. The certificate
needs no box, and the steps stay in it.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.known import Known, Truth, exactly
from robustbench_coded.zoo.linear import GAIN, PIXELS, SIDE, two_logits

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


class LipschitzDefence:
    """The network alone, with no other model underneath."""

    randomised = False
    batch_dependent = False
    base: nn.Module | None = None

    def __init__(self, model: Lipschitz, name: str):
        self.name = name
        self.model = model

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        return self.model(x)


def known(n: int = 640, eps: float = 0.25) -> Known:
    """Images moved away from the boundary by up to 3 eps."""
    return _known("lipschitz", n, eps, away=3 * eps)


def known_narrow(n: int = 640, eps: float = 0.25) -> Known:
    """Images left within half of eps of the boundary: the certificate has nothing to say of them."""
    return _known("lipschitz-narrow", n, eps, away=0.0, within=0.5 * eps)


def _known(name: str, n: int, eps: float, away: float, within: float | None = None, seed: int = 4) -> Known:
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
    return Known(LipschitzDefence(model, name), x.float(), y, 128, exactly(1.0), lambda threat: bounds)


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
