"""What a perturbation may be: a norm, a radius, and the space in which the radius is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, prod, sqrt
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]
EpsSpace = Literal["pixel", "normalized"]


class Ball(Protocol):
    """The points an attack may visit: the eps-ball around x0, intersected with the box [0, 1].

    Methods whose name ends in an underscore write into their first argument and return it.

    Attributes:
        order: of the norm, as ``torch.linalg.vector_norm`` takes it.
        radius: how far each slot may move, ``[G or 1, K or 1, 1, 1, 1]``, in the space of eps; for a free
            slot the size of the whole box.
        unit: a channel's pixel units in one unit of that space, ``[1, 1, C or 1, 1, 1]``.
    """

    order: ClassVar[float]
    radius: Tensor
    unit: Tensor

    def project_(self, x: Tensor) -> Tensor:
        """The point of the feasible set nearest to ``x`` in the Euclidean sense."""

    def step_(self, x: Tensor, grad: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent by ``size`` (units of eps; one number, or ``[G, K]``) along ``grad``, projected."""

    def uniform(self, generators: Sequence[torch.Generator]) -> Tensor:
        """A random start, batch g from ``generators[g]``."""

    def random_sign(self, generators: Sequence[torch.Generator]) -> Tensor:
        """x0 moved by eps with a random sign per value, clipped to the box: the control ``random-sign``."""

    def distance(self, x: Tensor) -> Tensor:
        """How far ``x`` is from x0, ``[G, K]``, as a fraction of what its slot may move."""


@dataclass(frozen=True)
class PerturbationBudget:
    """How far each input of a batch may be moved.

    Attributes:
        norm: "linf" or "l2", taken over one input's channels and pixels.
        eps: radius, 8/255 and never 8. For "pixel" in units of [0, 1]; for "normalized" in units of each
            channel's deviation, so that channel c may move by ``eps * deviation[c]`` (linf).
        eps_space: "pixel" or "normalized".
        deviation: one positive number a channel, for "normalized" alone.
        eps_scale: ``[G, K]`` factors on eps, None for ones: 0 keeps a slot at x0, inf allows it the whole
            box. A free slot steps by the same fraction of half the box as the others do of eps.

    Raises:
        ValueError: for a value that is none of the above.
    """

    norm: Norm
    eps: float
    eps_space: EpsSpace = "pixel"
    deviation: tuple[float, ...] | None = None
    eps_scale: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise ValueError(f"expected norm linf or l2, got {self.norm}")
        if not isfinite(self.eps) or self.eps < 0:
            raise ValueError(f"expected a finite eps >= 0, got {self.eps}")
        if self.norm == "linf" and self.eps_space == "pixel" and self.eps > 1:
            raise ValueError(f"expected eps on the scale of [0, 1] (8/255, not 8), got {self.eps:g}")
        if self.eps_space not in ("pixel", "normalized"):
            raise ValueError(f"expected eps_space pixel or normalized, got {self.eps_space}")
        if (self.eps_space == "normalized") != (self.deviation is not None):
            raise ValueError(f"expected a deviation for normalized eps alone, got {self.deviation}")
        if self.deviation is not None and not all(isfinite(d) and d > 0 for d in self.deviation):
            raise ValueError(f"expected positive deviations, got {self.deviation}")
        if self.eps_scale is not None:
            if self.eps_scale.ndim != 2 or not bool((self.eps_scale >= 0).all()):
                raise ValueError(
                    f"expected eps_scale [G, K] of factors >= 0, got {tuple(self.eps_scale.shape)}"
                )
            if self.eps == 0 and bool(self.eps_scale.isinf().any()):
                raise ValueError("expected eps > 0 where a slot is free, got eps = 0")

    def around(self, x0: Tensor) -> Ball:
        """The feasible set around ``x0`` ``[G, K, C, H, W]``; constants of the steps are computed once.

        Raises:
            ValueError: x0 has another shape, leaves [0, 1] or holds NaN, or does not fit the rest.
        """
        if x0.ndim != 5:
            raise ValueError(f"expected x0 [G, K, C, H, W], got {tuple(x0.shape)}")
        if x0.numel() and not bool(((x0 >= 0) & (x0 <= 1)).all()):
            raise ValueError(f"expected x0 in [0, 1], got [{x0.min():g}, {x0.max():g}]")
        if self.deviation is not None and len(self.deviation) != x0.shape[2]:
            raise ValueError(f"expected {x0.shape[2]} deviations, got {len(self.deviation)}")
        if self.eps_scale is not None and self.eps_scale.shape != x0.shape[:2]:
            raise ValueError(f"expected eps_scale {tuple(x0.shape[:2])}, got {tuple(self.eps_scale.shape)}")
        unit = x0.new_ones(1, 1, 1, 1, 1)
        if self.deviation is not None:
            unit = x0.new_tensor(self.deviation).view(1, 1, -1, 1, 1)
        eps_scale = x0.new_ones(1, 1, 1, 1, 1)
        if self.eps_scale is not None:
            eps_scale = self.eps_scale.to(x0)[:, :, None, None, None]
        return (LinfBall if self.norm == "linf" else L2Ball)(x0, self.eps, unit, eps_scale)

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """``x`` moved into the feasible set around ``x0``; both ``[G, K, C, H, W]``."""
        return self.around(x0).project_(x.clone())

    def step(self, x: Tensor, grad: Tensor, size: float, x0: Tensor) -> Tensor:
        """``x`` moved by ``size`` (units of eps) in the direction of steepest ascent, then projected."""
        return self.around(x0).step_(x.clone(), grad, size)

    def uniform(self, x0: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """A random start around ``x0``: uniform in the feasible box (linf), or in the ball (l2)."""
        return self.around(x0).uniform(generators)

    def random_sign(self, x0: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Noise of the attack's size: every value by eps (linf), or eps spread over all values (l2)."""
        return self.around(x0).random_sign(generators)

    def distance(self, x: Tensor, x0: Tensor) -> Tensor:
        """``[G, K]``, in units of what each slot may move: at most 1, up to rounding, inside the ball."""
        return self.around(x0).distance(x)


class LinfBall:
    """A box: the l-infinity ball intersected with [0, 1]; a projection is one clamp in place."""

    order: ClassVar[float] = inf

    def __init__(self, x0: Tensor, eps: float, unit: Tensor, eps_scale: Tensor):
        self.x0, self.unit = x0, unit
        whole = 1 / float(unit.min())
        self.radius = torch.where(eps_scale == inf, whole, eps * eps_scale)
        self.lower = (x0 - self.radius * unit).clamp_(min=0)
        self.upper = (x0 + self.radius * unit).clamp_(max=1)
        self._stride = _stride(unit, eps_scale, 0.5 * whole / eps if eps else 0.0)

    def project_(self, x: Tensor) -> Tensor:
        return x.clamp_(self.lower, self.upper)

    def step_(self, x: Tensor, grad: Tensor, size: float | Tensor) -> Tensor:
        return self.project_(_add_(x, grad.sign(), self._stride, size))

    def uniform(self, generators: Sequence[torch.Generator]) -> Tensor:
        u = _random(torch.rand, self.x0, generators)
        return self.project_(torch.lerp(self.lower, self.upper, u))

    def random_sign(self, generators: Sequence[torch.Generator]) -> Tensor:
        sign = _random(torch.rand, self.x0, generators).sub_(0.5).sign_()
        # A zero would be no sign; it has chance 2^-24.
        return self.project_(self.x0 + torch.where(sign == 0, 1, sign) * (self.radius * self.unit))

    def distance(self, x: Tensor) -> Tensor:
        moved = (x - self.x0).abs() / self.unit
        return _fraction(moved, self.radius).flatten(2).amax(2)


class L2Ball:
    """The Euclidean ball, in units of each channel's deviation if given, intersected with [0, 1]."""

    order: ClassVar[float] = 2.0
    # The projection's active set grows in every round; four rounds are usually enough.
    PROJECTION_ROUNDS = 16

    def __init__(self, x0: Tensor, eps: float, unit: Tensor, eps_scale: Tensor):
        self.x0, self.unit = x0, unit
        whole = sqrt(prod(x0.shape[2:])) / float(unit.min())
        self.radius = torch.where(eps_scale == inf, whole, eps * eps_scale)
        self.low, self.high = -x0 / unit, (1 - x0) / unit
        self._stride = _stride(torch.ones_like(unit), eps_scale, 0.5 * whole / eps if eps else 0.0)

    def project_(self, x: Tensor) -> Tensor:
        """Exact: the nearest point is clamp(t v) for the one t in [0, 1] that gives it norm eps.

        Solved for t on the values that are not clipped by the box. Each round increases t and clips more
        values; every round's point is feasible and the last one is the projection.
        """
        v = (x - self.x0) / self.unit
        t = _fraction(self.radius, _norm(v)).clamp_(max=1)
        for _ in range(self.PROJECTION_ROUNDS):
            moved = v * t
            held = (moved < self.low) | (moved > self.high)
            exhausted = _norm(torch.where(held, moved.clamp(self.low, self.high), 0)).square()
            rest = _norm(torch.where(held, 0, v)).square()
            room = (self.radius.square() - exhausted).clamp_(min=0)
            rise = torch.where(rest > 0, (room / rest).sqrt(), t).clamp(max=1)
            if not bool((rise > t * (1 + 1e-6)).any()):
                break
            t = torch.maximum(t, rise)
        inside = (v * t).clamp_(self.low, self.high).mul_(self.unit).add_(self.x0)
        return x.copy_(inside.clamp_(0, 1))

    def step_(self, x: Tensor, grad: Tensor, size: float | Tensor) -> Tensor:
        # Steepest ascent in the scaled values u = x / unit, where the gradient is grad * unit.
        scaled = grad * self.unit
        direction = scaled / _norm(scaled).clamp(min=torch.finfo(grad.dtype).tiny) * self.unit
        return self.project_(_add_(x, direction, self._stride, size))

    def uniform(self, generators: Sequence[torch.Generator]) -> Tensor:
        direction = _random(torch.randn, self.x0, generators)
        length = torch.stack([torch.rand(self.x0.shape[1], generator=g) for g in generators])
        length = length.to(self.x0)[:, :, None, None, None] ** (1 / prod(self.x0.shape[2:]))
        return self.project_(self.x0 + direction / _norm(direction) * length * self.radius * self.unit)

    def random_sign(self, generators: Sequence[torch.Generator]) -> Tensor:
        sign = _random(torch.rand, self.x0, generators).sub_(0.5).sign_()
        each = self.radius / sqrt(prod(self.x0.shape[2:])) * self.unit
        return (self.x0 + torch.where(sign == 0, 1, sign) * each).clamp_(0, 1)

    def distance(self, x: Tensor) -> Tensor:
        moved = _norm((x - self.x0) / self.unit)
        return _fraction(moved, self.radius).flatten(1)


def _norm(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v, dim=(2, 3, 4), keepdim=True)


def _fraction(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole with 0 / 0 = 0: a point that has not moved has used none of its budget."""
    return torch.where((part == 0) & (whole == 0), 0, part / whole)


def _stride(unit: Tensor, eps_scale: Tensor, free: float) -> Tensor | None:
    """How far a step of size 1 moves each slot; None if that is 1 for all."""
    stride = unit * torch.where(eps_scale == inf, free, eps_scale)
    return None if bool((stride == 1).all()) else stride


def _add_(x: Tensor, direction: Tensor, stride: Tensor | None, size: float | Tensor) -> Tensor:
    """x += direction * stride * size, without multiplying by ones."""
    if isinstance(size, Tensor):
        scale = size[:, :, None, None, None]
        return x.addcmul_(direction, scale if stride is None else scale * stride)
    return x.add_(direction, alpha=size) if stride is None else x.addcmul_(direction, stride, value=size)


def _random(draw: Callable[..., Tensor], x0: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Random numbers like x0, each batch from its own CPU generator, in float32 whatever x0 is."""
    if len(generators) != x0.shape[0]:
        raise ValueError(f"expected {x0.shape[0]} generators, one a batch, got {len(generators)}")
    return torch.stack([draw(x0.shape[1:], generator=g) for g in generators]).to(x0)
