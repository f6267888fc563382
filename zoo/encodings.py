"""Each pixel encoded by many values, and a linear layer: deterministic networks whose worst case is exact.

As in positional encodings (arXiv 2006.10739) and in thermometer codes, a pixel x becomes several values:

- ``sines``: sin(2^i 2 pi x) and cos(2^i 2 pi x) for five octaves;
- ``bumps``: how close it is to each of 16 levels, a Gaussian around each: a soft code of bins;
- ``slopes``: how far it is above each of 8 levels: a piecewise linear spline;
- ``levels``: a thermometer of 8 sigmoids.

The network is trained against PGD with seven steps on scikit-learn's digits. It is smooth, its gradients are
right, and its loss has many local optima within a ball.

Truth: every margin between two logits is a sum over pixels of functions of that pixel alone. So its least
value within the ball is the sum of the least values of these functions on an interval, found on a grid.
"""

from collections.abc import Callable
from functools import lru_cache
from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.defences.inferences import Standard
from zoo.known import Known, Truth, everywhere_later, exactly
from zoo.trained import CLASSES

GRID = 401  # points of an interval
BETWEEN = 0.01  # of a logit, by which a margin may fall between two of them
EXAMPLES = 256
EPOCHS, BATCH, STEPS = 12, 128, 7


def _sines(x: Tensor) -> Tensor:
    at = x[..., None] * (2 * pi * 2.0 ** torch.arange(5, device=x.device))
    return torch.cat([at.sin(), at.cos()], -1)


def _bumps(x: Tensor) -> Tensor:
    return torch.exp(-((x[..., None] - torch.linspace(0, 1, 16, device=x.device)) ** 2) / (2 * 0.04**2))


def _slopes(x: Tensor) -> Tensor:
    return 4 * (x[..., None] - torch.linspace(0, 7 / 8, 8, device=x.device)).relu()


def _levels(x: Tensor) -> Tensor:
    return torch.sigmoid(30 * (x[..., None] - torch.linspace(1 / 16, 15 / 16, 8, device=x.device)))


CODES: dict[str, Callable[[Tensor], Tensor]] = {
    "sines": _sines,
    "bumps": _bumps,
    "slopes": _slopes,
    "levels": _levels,
}


class Encoded(nn.Module):
    """Logits of a linear layer over the codes of all pixels.

    Args:
        code: pixels [...] -> values [..., F].
    """

    def __init__(self, code: Callable[[Tensor], Tensor], pixels: int):
        super().__init__()
        self.code = code
        width = code(torch.zeros(1)).shape[-1]
        self.layer = nn.Linear(pixels * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.code(x.flatten(1)).flatten(1))


@lru_cache
def trained(kind: str, eps: float, seed: int) -> Encoded:
    """The network trained against PGD within ``eps``; the same for the same seed."""
    data = load_digits("train")
    x, y = data.batch(range(len(data)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Encoded(CODES[kind], x[0].numel())
        optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x)).split(BATCH):
                at = _attacked(model, x[rows], y[rows], eps)
                loss = functional.cross_entropy(model(at), y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return model.eval().requires_grad_(False)


def _attacked(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    at = x + eps * (2 * torch.rand_like(x) - 1)
    for _ in range(STEPS):
        at = at.detach().clamp(0, 1).requires_grad_()
        (grad,) = torch.autograd.grad(functional.cross_entropy(model(at), y), at)
        at = torch.min(torch.max(at.detach() + eps / 4 * grad.sign(), x - eps), x + eps)
    return at.detach().clamp(0, 1)


def least_margins(model: Encoded, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The least margin within the ball and the box, on the grid, over all other classes; float64 [n]."""
    weight = model.layer.weight.double().unflatten(1, (x[0].numel(), -1))  # [classes, pixels, F]
    bias, least = model.layer.bias.double(), []
    for image, label in zip(x.double().flatten(1), y):
        low, high = (image - eps).clamp(min=0), (image + eps).clamp(max=1)
        at = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, GRID, dtype=torch.float64)
        scores = torch.einsum("pgf,cpf->cpg", model.code(at).double(), weight[label] - weight)
        margins = scores.amin(-1).sum(-1) + bias[label] - bias
        least.append(margins[torch.arange(CLASSES) != label].min())
    return torch.stack(least)


def known_encoded(name: str, kind: str, seed: int, n: int, eps: float) -> Known:
    model = trained(kind, eps, seed)
    x, y = load_digits("test").batch(range(min(n, EXAMPLES)))
    with torch.no_grad():
        clean = (model(x).argmax(1) == y).double().mean().item()
    defence = Standard(model)
    defence.name = name

    def truth() -> Truth:
        margins = least_margins(model, x, y, eps)
        return Truth((margins > BETWEEN).double().mean().item(), (margins > 0).double().mean().item())

    return Known(defence, x, y, exactly(clean), everywhere_later(truth))


def known_sines(n: int = EXAMPLES, eps: float = 0.1) -> Known:
    return known_encoded("sines", "sines", 0, n, eps)


def known_sines_again(n: int = EXAMPLES, eps: float = 0.1) -> Known:
    return known_encoded("sines-again", "sines", 1, n, eps)


def known_sines_small(n: int = EXAMPLES, eps: float = 0.05) -> Known:
    return known_encoded("sines-small", "sines", 0, n, eps)


def known_bumps(n: int = EXAMPLES, eps: float = 0.1) -> Known:
    return known_encoded("bumps", "bumps", 0, n, eps)


def known_slopes(n: int = EXAMPLES, eps: float = 0.1) -> Known:
    return known_encoded("slopes", "slopes", 0, n, eps)


def known_levels(n: int = EXAMPLES, eps: float = 0.1) -> Known:
    return known_encoded("levels", "levels", 0, n, eps)
