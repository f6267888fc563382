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

Each has two twins, as rugged and no more robust. ``-noise`` adds noise of deviation 0.0005 to each pixel:
what stands within eps and five deviations more stands in all draws but one in a million; what the worst
points leave of it is the other end. ``-scaled`` multiplies all logits of a batch by 1 and the mean of its
pixels: its answers depend on the batch, and its classes do not.
"""

from collections.abc import Callable
from functools import lru_cache
from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_coded.data.named_sets import load_digits
from robustbench_coded.defences.inferences import GaussianNoise, Standard
from robustbench_coded.defences.protocol import Defence
from zoo.known import Known, Truth, everywhere_later, exactly
from zoo.linear import InBatches
from zoo.trained import CLASSES

GRID = 401  # points of an interval
BETWEEN = 0.01  # of a logit, by which a margin may fall between two of them
EXAMPLES = 256
EPOCHS, BATCH, STEPS = 12, 128, 7
NOISE, FAR = 0.0005, 5  # deviation of the noise, and the most that is reckoned with, in deviations
DRAWS = 20  # of the noise, by which the worst points are scored


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


def _worst(model: Encoded, x: Tensor, y: Tensor, eps: float, beyond: float = 0.0) -> tuple[Tensor, Tensor]:
    """Least margins, float64 [n], and where they are, like x; ``beyond`` is how much further than an attacker
    a defence may move a pixel, out of the box, too.
    """
    weight = model.layer.weight.double().unflatten(1, (x[0].numel(), -1))  # [classes, pixels, F]
    bias, least, points = model.layer.bias.double(), [], []
    for image, label in zip(x.double().flatten(1), y):
        low, high = (image - eps).clamp(min=0) - beyond, (image + eps).clamp(max=1) + beyond
        at = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, GRID, dtype=torch.float64)
        scores = torch.einsum("pgf,cpf->cpg", model.code(at).double(), weight[label] - weight)
        margins = scores.amin(-1).sum(-1) + bias[label] - bias
        margins[label] = torch.inf
        least.append(margins.min())
        points.append(at.gather(1, scores[margins.argmin()].argmin(-1)[:, None])[:, 0])
    return torch.stack(least), torch.stack(points).to(x).view_as(x)


class ScaledByBatch(InBatches):
    """Logits times 1 and the mean of all pixels of the batch."""

    def __init__(self, model: nn.Module):
        self.model, self.base = model, None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        return self.model(x) * (1 + x.mean())


def known_encoded(name: str, entry: tuple[str, int], n: int, eps: float) -> Known:
    """An entry or one of its twins, by its name; ``entry`` is the code and the seed of the network."""
    model = trained(entry[0], eps, entry[1])
    x, y = load_digits("test").batch(range(min(n, EXAMPLES)))
    defence: Defence = Standard(model)
    if name.endswith("-noise"):
        defence = GaussianNoise(model, NOISE)
        defence.base = None
    elif name.endswith("-scaled"):
        defence = ScaledByBatch(model)
    defence.name = name

    def accuracy(at: Tensor) -> float:
        draws = range(DRAWS if defence.randomised else 1)
        with torch.no_grad():
            return sum((defence.logits(at, i).argmax(1) == y).double().mean().item() for i in draws) / len(
                draws
            )

    def truth() -> Truth:
        margins, worst = _worst(model, x, y, eps)
        if not defence.randomised:
            return Truth((margins > BETWEEN).double().mean().item(), (margins > 0).double().mean().item())
        certain = _worst(model, x, y, eps, FAR * NOISE)[0] > BETWEEN
        return Truth(certain.double().mean().item(), accuracy(worst))

    return Known(defence, x, y, exactly(accuracy(x)), everywhere_later(truth))


SINES, SINES_AGAIN, BUMPS, SLOPES, LEVELS = (
    ("sines", 0), ("sines", 1), ("bumps", 0), ("slopes", 0), ("levels", 0)
)  # fmt: skip
