"""Four wrappers around the digits network trained without defence: its answers, and slopes that lie.

Each answers with exactly the network's class for every input, so its robust accuracy is the network's and its
gain over it is exactly 0. What an attacker sees of it is made up:

- ``one-hot``: 10 for the network's class, 0 for the others, with the slope of a linear model of the digits;
  it names no base.
- ``other-base``: the same, and it names another network as its base.
- ``pinned``: the network's class at 0.1, the one that the decoy would answer (the next, where the two agree)
  at 0, the others far below, with the decoy's slope: a margin that never changes.
- ``lifted``: the decoy's own logits, bounded, with the network's class lifted above them. Gradients agree
  with differences of logits; the network shows where its class changes alone. It names no base.

Truth: no more than what our own attack on the network leaves (40 steps along the gradients of margin and
cross-entropy, each from the clean input and a random start). Nothing is certified: the lower end is 0.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.data.digits import load_digits
from robustbench_coded.zoo.descent import standing_after_descent
from robustbench_coded.zoo.deterministic import Deterministic, with_slope_of
from robustbench_coded.zoo.digits_network import EXAMPLES, digits_network
from robustbench_coded.zoo.known import Known, Truth, everywhere_later, exactly
from robustbench_coded.zoo.masked_gradients import Lifted, OneHot
from robustbench_coded.zoo.trained import LinearClassifier

WRAPPED, OTHER = "digits-erm", "digits-mixup"


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


def known_lifted(n: int = EXAMPLES, eps: float = 0.1) -> Known:
    model = _network(WRAPPED)
    return _known(Deterministic(f"lifted-{eps:g}", Lifted(model, decoy())), model, n, eps)


@lru_cache
def decoy() -> LinearClassifier:
    """A linear model of the digits: the ridge regression of the classes on the training images."""
    train = load_digits("train")
    x, y = train.batch(range(len(train)))
    pixels = torch.cat([x.flatten(1), torch.ones(len(x), 1)], 1).double()
    wanted = functional.one_hot(y).double() - 0.1
    solved = torch.linalg.solve(pixels.T @ pixels + torch.eye(pixels.shape[1]).double(), pixels.T @ wanted)
    return LinearClassifier((10 * solved[:-1].T).float(), (10 * solved[-1]).float())


def _known(defence: Deterministic, model: nn.Module, n: int, eps: float) -> Known:
    x, y = load_digits("test").batch(range(min(n, EXAMPLES)))
    with torch.no_grad():
        clean = (model(x).argmax(1) == y).double().mean().item()
    # Computed on demand: the defence alone is wanted more often.
    left = everywhere_later(lambda: Truth(0.0, _left(len(x), eps)))
    return Known(defence, x, y, 128, exactly(clean), left, checkpoint=model)


@lru_cache
def _network(name: str) -> nn.Module:
    return digits_network(name)


@lru_cache
def _left(n: int, eps: float) -> float:
    """Accuracy that our attack leaves the wrapped network on the first n examples."""
    x, y = load_digits("test").batch(range(n))
    return standing_after_descent(_network(WRAPPED), x, y, eps).double().mean().item()
