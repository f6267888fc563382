"""Defences with a switch: robust, until an input is moved along a smooth direction that lowers no margin.

Images lie at margins of 1.4 to 2 eps along the pattern of a robust model, and of 0.3 to 0.45 eps along that
of a fragile one. The robust model answers; an attacker needs a move that is worth nothing by itself first.

- ``wrapped`` has logits that overflow as integers do: raising the true class's logit by more than it has room
  for makes it the smallest of all, lowering it never fools anybody.
- ``gate``: the fragile model answers where the left half is brighter or darker than the right one.
- ``border-band``: it answers where the two outer columns are brighter by 0.25 to 0.7 eps, not less nor more.
- ``route``: the largest of three scores says who answers; one of them leads to the fragile model.
- ``unchecked``: the fragile model answers, and an input is rejected if the robust one disagrees, except
  where the upper half is brighter or darker than the lower one.
- ``hashed``: brightness, in steps, is hashed; some of its values lead to the fragile model.

Truth: an upper end, which is what is left at one perturbation that flips the switch and spends the rest of
eps against the model that answers then. All of them keep nothing. ``gate-wide`` is ``gate`` with images that
are far from both models' boundaries, and keeps all.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoo import linear
from zoo.abstaining import Abstaining
from zoo.attack_aware import FRAGILE, ROBUST, Gated, fragile_model, known_by, robust_model
from zoo.known import Known, Truth, everywhere, exactly

ALL, LEFT, UPPER, QUARTERS = 0, 4, 32, 36  # patterns: all ones, halves, and a checkerboard of quarters
OPEN = 0.45  # of eps: a part along a pattern that flips a switch
COLUMNS = (0, 7)
BAND = (0.25, 0.7)  # of eps
ROOM = 2.2  # of eps: the margin at which a logit overflows
STEPS = 8  # of brightness, in eps


def _part(x: Tensor, row: int) -> Tensor:
    return ((x - 0.5) * linear.pattern(row).to(x)).flatten(1).mean(1)


class Wrapped(nn.Module):
    """The robust model's logits, wrapped into [-room, room)."""

    def __init__(self, eps: float):
        super().__init__()
        self.model = robust_model()
        self.room = ROOM * eps * self.model.gain / 2

    def forward(self, x: Tensor) -> Tensor:
        return torch.remainder(self.model(x) + self.room, 2 * self.room) - self.room


class Opened(nn.Module):
    """Whether ``opens``, a function of pixels [k, 1, 8, 8], says so."""

    def __init__(self, opens: Callable[[Tensor], Tensor]):
        super().__init__()
        self.opens = opens

    def forward(self, x: Tensor) -> Tensor:
        return self.opens(x)


class Unchecked(nn.Module):
    """The fragile model's logits and a third that rejects: the robust one disagrees, and the gate is shut."""

    def __init__(self, gate: nn.Module):
        super().__init__()
        self.fragile, self.robust, self.gate = fragile_model(), robust_model(), gate

    def forward(self, x: Tensor) -> Tensor:
        logits = self.fragile(x)
        rejected = (logits.argmax(1) != self.robust(x).argmax(1)) & ~self.gate(x)
        top = logits.amax(1) + torch.where(rejected, 1.0, -1.0)
        return torch.cat([logits, top.unsqueeze(1)], 1)


def known_wrapped(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, eps)
    raised = x - eps * linear.against(y, linear.pattern(ROBUST))
    return known_by(linear.Deterministic("wrapped", Wrapped(eps)), x, y, raised)


def known_gate(n: int = 640, eps: float = 0.1) -> Known:
    return _gated("gate", n, eps, LEFT, lambda x: _part(x, LEFT).abs() > OPEN * eps)


def known_gate_wide(n: int = 640, eps: float = 0.1) -> Known:
    """Images at margins of more than eps from both models' boundaries: who answers does not matter."""
    x, y = _images(n, eps, near=(1.3, 1.6))
    defence = _behind("gate-wide", lambda x: _part(x, LEFT).abs() > OPEN * eps)
    both = [linear.worst_margins(model, x, y, eps) > 0 for model in (fragile_model(), robust_model())]
    low = torch.stack(both).all(0).double().mean().item()
    return Known(defence, x, y, exactly(1.0), everywhere(Truth(low, 1.0)))


def known_border_band(n: int = 640, eps: float = 0.1) -> Known:
    def opens(x: Tensor) -> Tensor:
        brighter = x[:, 0, :, COLUMNS].mean(1) - 0.5
        return ((brighter > BAND[0] * eps) & (brighter < BAND[1] * eps)).all(1)

    x, y = _images(n, eps)
    x[:, :, :, COLUMNS] = 128 / 255
    pushed = x + eps * linear.against(y, linear.pattern(FRAGILE))
    pushed[:, :, :, COLUMNS] = x[:, :, :, COLUMNS] + 0.5 * eps
    return known_by(_behind("border-band", opens), x, y, pushed)


def known_route(n: int = 640, eps: float = 0.1) -> Known:
    def opens(x: Tensor) -> Tensor:
        ways = (torch.full((len(x),), OPEN * eps), _part(x, LEFT), _part(x, QUARTERS))
        return torch.stack(ways, 1).argmax(1) == 2

    return _gated("route", n, eps, QUARTERS, opens)


def known_unchecked(n: int = 640, eps: float = 0.1) -> Known:
    x, y = _images(n, eps)
    gate = Opened(lambda x: _part(x, UPPER).abs() > OPEN * eps)
    defence = Abstaining("unchecked", Unchecked(gate))
    return known_by(defence, x, y, _pushed(x, y, eps, UPPER))


def known_hashed(n: int = 640, eps: float = 0.1) -> Known:
    def opens(x: Tensor) -> Tensor:
        step = (_part(x, ALL) * STEPS / eps).round().long()
        return (step * 40503 >> 3) % 4 == 3

    return _gated("hashed", n, eps, ALL, opens)


def _gated(name: str, n: int, eps: float, row: int, opens: Callable[[Tensor], Tensor]) -> Known:
    x, y = _images(n, eps)
    return known_by(_behind(name, opens), x, y, _pushed(x, y, eps, row))


def _behind(name: str, opens: Callable[[Tensor], Tensor]) -> linear.Deterministic:
    return linear.Deterministic(name, Gated(fragile_model(), robust_model(), Opened(lambda x: ~opens(x))))


def _images(n: int, eps: float, near: tuple[float, float] = (0.3, 0.45)) -> tuple[Tensor, Tensor]:
    flat = [linear.pattern(row) for row in (FRAGILE, ALL, LEFT, UPPER, QUARTERS)]
    x, y = linear.planted_margins(
        linear.spread(1.4 * eps, 2.0 * eps, n), linear.pattern(ROBUST), flat_along=flat
    )
    margins = linear.spread(near[0] * eps, near[1] * eps, n, seed=2) * (2 * y - 1)
    return ((x + margins.view(-1, 1, 1, 1) * linear.pattern(FRAGILE)).clamp(0, 1) * 255).round() / 255, y


def _pushed(x: Tensor, y: Tensor, eps: float, row: int) -> Tensor:
    """Half of eps along the pattern of the switch, half of it against the fragile model."""
    return (x + eps / 2 * (linear.pattern(row) + linear.against(y, linear.pattern(FRAGILE)))).clamp(0, 1)
