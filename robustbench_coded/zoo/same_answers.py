"""Three wrappers around the digits network trained without defence: its answers, and slopes that lie.

Each answers with exactly the network's class for every input, so its robust accuracy is the network's and its
gain over it is exactly 0. What an attacker sees of it is made up:

- ``one-hot``: 10 for the network's class, 0 for the others, with the slope of a linear model of the digits;
  it names no base.
- ``other-base``: the same, and it names another network as its base.
- ``pinned``: the network's class at 0.1, the one that the decoy would answer (the next, where the two agree)
  at 0, the others far below, with the decoy's slope: a margin that never changes.

Truth: no more than what our own attack on the network leaves (40 steps along the gradients of margin and
cross-entropy, each from the clean input and a random start). Nothing is certified: the lower end is 0.
"""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from attacks.losses import Loss, cross_entropy, margin_loss
from robustbench_coded.data.digits import load_digits
from robustbench_coded.errors import InputError
from robustbench_coded.models.loading import load_checkpoint, with_normalisation
from robustbench_coded.zoo.deterministic import Deterministic, with_slope_of
from robustbench_coded.zoo.known import Known, Truth, everywhere, exactly
from robustbench_coded.zoo.masked_gradients import OneHot
from robustbench_coded.zoo.trained import trained_linear

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
WRAPPED, OTHER = "digits-erm", "digits-mixup"
EXAMPLES = 256  # of the data's first; the network is a hundred times as slow as a linear model
STEPS = 40


class Pinned(nn.Module):
    """The model's class is ahead of one other by 0.1, always, with the decoy's slope."""

    def __init__(self, model: nn.Module, decoy: nn.Module):
        super().__init__()
        self.model = model
        self.decoy = decoy

    def forward(self, x: Tensor) -> Tensor:
        slope = self.decoy(x)
        first = self.model(x).argmax(-1, keepdim=True)
        second = slope.detach().scatter(-1, first, -torch.inf).argmax(-1, keepdim=True)
        values = torch.full_like(slope, -5.0).scatter(-1, second, 0.0).scatter(-1, first, 0.1)
        return with_slope_of(values, slope)


def known_one_hot(n: int = EXAMPLES, eps: float = 0.1) -> Known:
    model = _network(WRAPPED)
    return _known(Deterministic(f"one-hot-{eps:g}", OneHot(model, decoy())), model, n, eps)


def known_other_base(n: int = EXAMPLES, eps: float = 0.1) -> Known:
    model = _network(WRAPPED)
    defence = Deterministic(f"other-base-{eps:g}", OneHot(model, decoy()), base=_network(OTHER))
    return _known(defence, model, n, eps)


def known_pinned(n: int = EXAMPLES, eps: float = 0.1) -> Known:
    model = _network(WRAPPED)
    return _known(Deterministic(f"pinned-{eps:g}", Pinned(model, decoy())), model, n, eps)


@lru_cache
def decoy() -> nn.Module:
    """A linear model of the digits, trained anew in half a second."""
    return trained_linear(0.0)


@lru_cache
def _network(name: str) -> nn.Module:
    path = CHECKPOINTS / f"{name}.safetensors"
    if not path.exists():
        raise InputError(f"{path} is missing; python -m robustbench_coded.training.make_checkpoints makes it")
    x, y = load_digits("test").batch(range(EXAMPLES))
    return with_normalisation(load_checkpoint(path), x, y)[0]


def _known(defence: Deterministic, model: nn.Module, n: int, eps: float) -> Known:
    x, y = load_digits("test").batch(range(min(n, EXAMPLES)))
    clean, left = _measured(min(n, EXAMPLES), eps)
    return Known(defence, x, y, 128, exactly(clean), everywhere(Truth(0.0, left)), checkpoint=model)


@lru_cache
def _measured(n: int, eps: float) -> tuple[float, float]:
    """Accuracy of the wrapped network on the first n examples, clean and after our attack."""
    model = _network(WRAPPED)
    x, y = load_digits("test").batch(range(n))
    right = model(x).argmax(1) == y
    stands = right.clone()
    start = x + eps * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 1)
    for begin in (x, start.clamp(0, 1)):
        for loss in (margin_loss, cross_entropy):
            left = stands.nonzero().squeeze(1)
            found = descended(model, x[left], y[left], begin[left], eps, loss)
            stands[left] = model(found).argmax(1) == y[left]
    return right.double().mean().item(), stands.double().mean().item()


def descended(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, eps: float, loss: Loss) -> Tensor:
    """Where steps up the gradient of the loss end, within ball and box; shorter ones in the second half."""
    at = start
    for step in range(STEPS):
        at = at.detach().requires_grad_()
        (grad,) = torch.autograd.grad(loss(model(at), y).sum(), at)
        size = eps * (0.25 if step < STEPS // 2 else 0.05)
        at = (at.detach() + size * grad.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return at.detach()
