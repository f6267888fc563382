"""Switches between a robust network and a fragile one, or a fault, that no attack on a margin flips.

    csrobust eval --ckpt digits-pgd-at --defence benchmarks/errors/awkward_switches.py:patch --eps 0.2

Truth: an upper end. ``broken_by`` knows the switch: it descends on the margin of what answers behind it less
a multiple of what opens it, and keeps what the defence itself answers wrongly.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.errors.awkward_honest import InNumpy
from zoo.trained import decoy

EPS = 0.2
WEIGHTS = (0.0, 3.0, 10.0, 30.0, 100.0)  # of what opens the switch
STEPS, STEP = 60, 0.02


class Switch:
    """The robust network ``model`` where ``towards`` is below 0, else ``behind``; names no base model."""

    randomised, batch_dependent, base = False, False, None

    def __init__(self, model: nn.Module):
        self.model, self.fragile = model, decoy()  # a linear model of the digits
        self.name = type(self).__name__.lower()

    def sample(self, generator: torch.Generator, k: int) -> Any:
        return None

    def towards(self, x: Tensor) -> Tensor:
        """How far the switch is open, [k]."""
        raise NotImplementedError

    def behind(self, x: Tensor) -> Tensor:
        return self.fragile(x)

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        # In numpy, where no relaxation of comparisons sees it.
        opened = torch.from_numpy(self.towards(x.detach()).cpu().numpy() > 0).to(x.device)
        return torch.where(opened[:, None], self.behind(x), self.model(x))

    def opened(self, x: Tensor) -> Tensor:
        """What opens the switch, with a slope."""
        return self.towards(x)

    def broken_by(self, x: Tensor, y: Tensor) -> Tensor:
        """Perturbed images [n, 1, 8, 8] in [0, 1], within ``EPS`` of ``x``."""
        best = x.clone()
        for weight in WEIGHTS:

            def value(at: Tensor, weight: float = weight) -> Tensor:
                return margins(self.behind(at), y) - weight * self.opened(at).clamp(max=0.01)

            found = descended(value, x)
            wrong = self.logits(found, None).argmax(1) != y
            best = torch.where(wrong[:, None, None, None], found, best)
        return best


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """The true class's logit less the largest other one."""
    others = logits.masked_fill(functional.one_hot(y, logits.shape[1]).bool(), -torch.inf).amax(1)
    return logits.gather(1, y[:, None])[:, 0] - others


def descended(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Steps that lower ``value``, within ``EPS`` of ``x``."""
    at = x
    for step in range(STEPS):
        at = at.detach().requires_grad_()
        size = STEP * (1 - step / STEPS) + 0.002
        at = at - size * torch.autograd.grad(value(at).sum(), at)[0].sign()
        at = (x + (at - x).clamp(-EPS, EPS)).clamp(0, 1)
    return at.detach()


class Patch(Switch):
    """A corner of 2 x 2 pixels, black in nearly all digits, is a trigger."""

    def towards(self, x: Tensor) -> Tensor:
        return x[:, 0, :2, 6:].amin((1, 2)) - 0.8 * EPS


class Chequered(Switch):
    """A part along the chequerboard, which is no smooth direction."""

    def towards(self, x: Tensor) -> Tensor:
        board = (-1.0) ** torch.arange(8).view(8, 1) * (-1.0) ** torch.arange(8)
        return ((x - functional.avg_pool2d(x, 3, 1, 1)) * board.to(x)).mean((1, 2, 3)) - 0.3 * EPS


class Bright(Switch):
    """Routed by the mean brightness: above that of all but a few digits."""

    def towards(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3)) - 0.37


class Constant(Switch):
    """One answer for all images whose four corners are brighter than those of digits."""

    def towards(self, x: Tensor) -> Tensor:
        return x[:, 0, ::7, ::7].amin((1, 2)) - 0.7 * EPS

    def behind(self, x: Tensor) -> Tensor:
        return functional.one_hot(torch.zeros(len(x), dtype=torch.int64), 10).to(x) + 0 * self.fragile(x)


class Both(Switch):
    """Two gates at once: the left border and the lower one are brighter."""

    def towards(self, x: Tensor) -> Tensor:
        return torch.minimum(x[:, 0, :, 0].mean(1), x[:, 0, 7].mean(1)) - 0.7 * EPS


class Saturated(Switch):
    """Contrast is raised fourfold, and clamped, where the image has little of it."""

    def towards(self, x: Tensor) -> Tensor:
        return 0.3 - x.std((1, 2, 3))

    def behind(self, x: Tensor) -> Tensor:
        return self.fragile(((x - 0.4) * 4 + 0.5).clamp(0, 1))


class Wrapped(Switch):
    """Logits overflow as integers do: 15 and more become -11 and more."""

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        return torch.remainder(self.model(x) + 11, 26) - 11

    def broken_by(self, x: Tensor, y: Tensor) -> Tensor:
        """Raises the true class's logit; or lowers the margin, where that fails."""
        raised = descended(lambda at: -self.model(at).gather(1, y[:, None])[:, 0], x)
        lowered = descended(lambda at: margins(self.model(at), y), x)
        wrong = self.logits(raised, None).argmax(1) != y
        return torch.where(wrong[:, None, None, None], raised, lowered)


class Blind(Patch):
    """The patch again, around the network in numpy: nothing is left to differentiate or to relax."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.in_numpy = InNumpy(model)

    def logits(self, x: Tensor, draw: Any) -> Tensor:
        at = x.detach()
        opened = torch.from_numpy(np.asarray(self.towards(at)) > 0)[:, None]
        weights, bias = self.fragile.w.numpy(), self.fragile.b.numpy()
        behind = torch.from_numpy(np.einsum("np,cp->nc", at.flatten(1).numpy(), weights) + bias)
        return torch.where(opened, behind, self.in_numpy.logits(at, None))


SWITCHES = {
    one.__name__.lower(): one for one in (Patch, Chequered, Bright, Constant, Both, Saturated, Wrapped, Blind)
}
globals().update(SWITCHES)
