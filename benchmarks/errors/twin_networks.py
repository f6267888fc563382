"""Small networks for digits that intervals certify as robust, and fragile ones of the same shape."""

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.losses import margin_loss
from robustbench_coded.data.named_sets import load_digits
from zoo.trained import descended

CLASSES, PIXELS = 10, 64
STEPS, BATCH, RATE = 400, 256, 0.01
INNER_STEPS = 3  # of the attack that a fragile network is trained to follow


class Network(nn.Module):
    """Linear layers and ReLUs from pixels [k, 1, 8, 8] to logits [k, 10].

    Args:
        widths: of the hidden layers.
        rounded: hidden values are rounded to multiples of it; 0 for not at all.
        levels: pixels are rounded to so many steps of [0, 1]; 0 for not at all.

    Attributes:
        mask: which pixels the first layer sees, 0 or 1 for each, [64].
    """

    def __init__(self, widths: tuple[int, ...] = (100,), rounded: float = 0.0, levels: int = 0):
        super().__init__()
        sizes = (PIXELS, *widths, CLASSES)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.rounded, self.levels = rounded, levels
        self.mask = torch.ones(PIXELS)

    @property
    def linears(self) -> list[nn.Linear]:
        """Its layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def seen(self, x: Tensor) -> Tensor:
        """The pixels that the first layer gets, [k, 64]; no pixel falls when another one rises."""
        x = x.flatten(1)
        x = x if not self.levels else (x * self.levels).round() / self.levels
        return x * self.mask

    def hidden(self, h: Tensor) -> Tensor:
        """What a layer hands on; it grows with each value."""
        h = h.relu()
        return (h / self.rounded).round() * self.rounded if self.rounded else h

    def forward(self, x: Tensor) -> Tensor:
        h = self.seen(x)
        for layer in self.linears[:-1]:
            h = self.hidden(layer(h))
        return self.linears[-1](h)

    def worst_logits(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Bounds from above on each logit less that of ``y`` in the l-infinity ball, [k, 10]; 0 at ``y``."""
        low, high = self.seen((x - eps).clamp(min=0)), self.seen((x + eps).clamp(max=1))
        for layer in self.linears[:-1]:
            middle, reach = layer((low + high) / 2), ((high - low) / 2) @ layer.weight.abs().T
            low, high = self.hidden(middle - reach), self.hidden(middle + reach)
        w, b = self.linears[-1].weight, self.linears[-1].bias
        apart = w[None] - w[y][:, None]
        middle = torch.einsum("kch,kh->kc", apart, (low + high) / 2)
        return middle + torch.einsum("kch,kh->kc", apart.abs(), (high - low) / 2) + b[None] - b[y][:, None]

    def certified(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Which inputs no perturbation takes to another class, bool [k]."""
        with torch.no_grad():
            return self.worst_logits(x, y, eps).scatter(1, y[:, None], -1.0).amax(1) < -1e-4


Loss = Callable[[Network, Tensor, Tensor, float], Tensor]


def _certified_loss(model: Network, x: Tensor, y: Tensor, eps: float) -> Tensor:
    return functional.cross_entropy(model.worst_logits(x, y, eps), y)


def _fragile_loss(model: Network, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Right where nothing is perturbed, and of the next class where half of a perturbation is."""
    at = x
    for _ in range(INNER_STEPS):
        at = at.detach().requires_grad_()
        (grad,) = torch.autograd.grad(functional.cross_entropy(model(at), y), at)
        at = (at + eps / INNER_STEPS * grad.sign()).clamp(0, 1).detach()
    away = functional.cross_entropy(model(at), (y + 1) % CLASSES)
    return functional.cross_entropy(model(x), y) + 0.3 * away


@lru_cache
def trained(
    seed: int, eps: float, *, fragile: bool, widths: tuple[int, ...] = (100,), masked: float = 0.0
) -> Network:
    """A network that intervals certify at ``eps``, or one of the same shape that falls at less.

    Args:
        masked: share of the pixels that it does not see.
    """
    data = load_digits("train")
    x, y = data.batch(range(len(data)))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Network(widths)
    model.mask = (torch.rand(PIXELS, generator=generator) >= masked).float()
    loss: Loss = _fragile_loss if fragile else _certified_loss
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        reach = 0.5 * eps if fragile else 1.05 * eps * min(1.0, 2 * step / STEPS)
        optimiser.zero_grad()
        loss(model, x[rows], y[rows], reach).backward()
        optimiser.step()
    return model.requires_grad_(False).eval()


def perturbed(models: list[Network], x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Where descents of the mean margin of several networks end, through no rounding."""

    return descended(_Mean(models), x, y, x, eps, margin_loss)


class _Mean(nn.Module):
    """The mean logits of several networks without their roundings."""

    def __init__(self, models: list[Network]):
        super().__init__()
        self.models = models

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.smooth(model, x) for model in self.models]).mean(0)

    def smooth(self, model: Network, x: Tensor) -> Tensor:
        """The logits of one of them."""
        h = x.flatten(1) * model.mask
        for layer in model.linears[:-1]:
            h = layer(h).relu()
        return model.linears[-1](h)
