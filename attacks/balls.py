"""The l-infinity, l2, l1 and l0 balls around clean inputs, intersected with the box [0, 1].

The l1 ball is that of arXiv 2103.01208, section 2, the l0 ball that of arXiv 1909.05040. ``unit`` and
``eps_scale`` are in float32 at least, whatever the type of x0; a point is rounded towards x0, so that it
stays inside the ball in every type.
"""

from collections.abc import Callable, Sequence
from math import inf, prod

import torch
from torch import Tensor

from attacks.accelerator import double, lacks

# The order of a norm's dual, by its own; l0 has none, and gradients are measured in l2.
DUAL = {inf: 1.0, 2.0: 2.0, 1.0: inf, 0.0: 2.0}


def moved(x0: Tensor, u: Tensor) -> Tensor:
    """x0 + u inside the box, in the type of x0, rounded so that no value moves further than ``u`` says."""
    x = (x0 + u).clamp_(0, 1).to(x0.dtype)
    # Floats of one sign are ordered as their bits are; ``torch.nextafter`` does not know every type.
    bits = x.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])
    nearer = (bits + (x0 > x).to(bits) - (x0 < x).to(bits)).view(x.dtype)
    return torch.where((x.to(u) - x0).abs() > u.abs(), nearer, x)


class Ball:
    """The points an attack may visit: the eps-ball around x0, intersected with the box [0, 1].

    Methods whose name ends in an underscore write into their first argument and return it.

    Args:
        x0: clean inputs ``[G, K, C, H, W]``.
        eps: in the space of eps.
        unit: a channel's pixel units in one unit of that space, ``[1, 1, C or 1, 1, 1]``.
        eps_scale: factors on eps, ``[G or 1, K or 1, 1, 1, 1]``; inf for a free slot.

    Attributes:
        order: of the norm, as ``torch.linalg.vector_norm`` takes it.
        radius: of each slot, ``[G or 1, K or 1, 1, 1, 1]``, in the space of eps; of a free slot the size of
            the whole box.
        low, high: distances from each value to the box, in the space of eps.
    """

    order: float

    def __init__(self, x0: Tensor, eps: float, unit: Tensor, eps_scale: Tensor):
        self.x0, self.unit = x0, unit
        whole = self._norm_of_ones() / float(unit.min())
        self.radius = torch.where(eps_scale == inf, whole, eps * eps_scale)
        self.low, self.high = -x0 / unit, (1 - x0) / unit
        # How far a step of size 1 moves each slot; None if that is 1 for all.
        stride = torch.where(eps_scale == inf, 0.5 * whole / eps if eps else 0.0, eps_scale)
        self._stride = None if bool((stride == 1).all()) else stride

    def _norm_of_ones(self) -> float:
        """Of an input all of whose values are 1."""
        return float(prod(self.x0.shape[2:]) ** (1 / self.order))

    def project_(self, x: Tensor) -> Tensor:
        """The point of the feasible set nearest to ``x`` in the Euclidean sense."""
        raise NotImplementedError

    def step_(self, x: Tensor, grad: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent by ``size`` (units of eps; one number, or ``[G, K]``) along ``grad``, projected."""
        raise NotImplementedError

    def uniform(self, generators: Sequence[torch.Generator]) -> Tensor:
        """A random start, batch g from ``generators[g]``: uniform in the feasible box (linf), in the ball
        (l2, l1), or in eps random pixels (l0)."""
        raise NotImplementedError

    def random_sign(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Noise of the attack's size, the control ``random-sign``: every value by eps (linf), eps spread over
        all values (l2, l1), or eps random pixels in black or white (l0); clipped to the box."""
        sign = drawn(torch.rand, self.x0, generators).sub_(0.5).sign_()
        each = self.radius / self._norm_of_ones() * self.unit
        # A zero would be no sign; it has chance 2^-24.
        return moved(self.x0, torch.where(sign == 0, 1, sign) * each)

    def distance(self, x: Tensor) -> Tensor:
        """Distance of ``x`` from x0 as a fraction of each slot's radius, ``[G, K]``."""
        # In float64: of many values, float32 sums up to 1.5e-3 of eps too much.
        apart = (double(x) - double(self.x0)) / double(self.unit)
        return fraction(norm_of(apart, self.order), double(self.radius)).flatten(1).to(self.unit)


class LinfBall(Ball):
    """A box: the l-infinity ball intersected with [0, 1]; a projection is one clamp in place."""

    order = inf

    def __init__(self, x0: Tensor, eps: float, unit: Tensor, eps_scale: Tensor):
        super().__init__(x0, eps, unit, eps_scale)
        self.lower = moved(x0, -self.radius * unit)
        self.upper = moved(x0, self.radius * unit)
        stride = unit if self._stride is None else unit * self._stride
        self._stride = None if bool((stride == 1).all()) else stride

    def project_(self, x: Tensor) -> Tensor:
        return x.clamp_(self.lower, self.upper).to(self.x0.dtype)

    def step_(self, x: Tensor, grad: Tensor, size: float | Tensor) -> Tensor:
        return self.project_(add_(x, grad.sign(), self._stride, size))

    def uniform(self, generators: Sequence[torch.Generator]) -> Tensor:
        u = drawn(torch.rand, self.x0, generators)
        return self.project_(torch.lerp(self.lower, self.upper, u))


class L2Ball(Ball):
    """The Euclidean ball, in units of each channel's deviation if given, intersected with [0, 1]."""

    order = 2.0
    # The projection's active set grows in every round; four rounds are usually enough.
    PROJECTION_ROUNDS = 16

    def project_(self, x: Tensor) -> Tensor:
        """Exact: the nearest point is clamp(t v) for the one t in [0, 1] that gives it norm eps.

        Solved for t on the values that are not clipped by the box. Each round increases t and clips more
        values; every round's point is feasible and the last one is the projection. Whether one is the last,
        an accelerator is synchronised every fourth round: each question waits for it.
        """
        v = (x.to(self.unit) - self.x0) / self.unit
        t = fraction(self.radius, norm_of(v)).clamp_(max=1)
        going, period = torch.ones((), dtype=torch.bool, device=x.device), 1 if x.device.type == "cpu" else 4
        for done in range(1, self.PROJECTION_ROUNDS + 1):
            move = v * t
            held = (move < self.low) | (move > self.high)
            exhausted = norm_of(torch.where(held, move.clamp(self.low, self.high), 0)).square()
            rest = norm_of(torch.where(held, 0, v)).square()
            room = (self.radius.square() - exhausted).clamp_(min=0)
            rise = torch.where(rest > 0, (room / rest).sqrt(), t).clamp(max=1)
            going = going & (rise > t * (1 + 1e-6)).any()
            if done % period == 0 and not bool(going):
                break
            t = torch.where(going, torch.maximum(t, rise), t)
        inside = (v * t).clamp_(self.low, self.high)
        inside.mul_(fraction(self.radius, norm_of(inside, dtype=widest(x))).clamp_(max=1))
        return x.copy_(moved(self.x0, inside.mul_(self.unit))).to(self.x0.dtype)

    def step_(self, x: Tensor, grad: Tensor, size: float | Tensor) -> Tensor:
        # Steepest ascent in the scaled values u = x / unit, where the gradient is grad * unit.
        scaled = grad * self.unit
        direction = scaled / norm_of(scaled).clamp(min=torch.finfo(grad.dtype).tiny) * self.unit
        return self.project_(add_(x, direction, self._stride, size))

    def uniform(self, generators: Sequence[torch.Generator]) -> Tensor:
        direction = drawn(torch.randn, self.x0, generators)
        length = torch.stack([torch.rand(self.x0.shape[1], generator=g) for g in generators])
        length = length.to(self.x0)[:, :, None, None, None] ** (1 / prod(self.x0.shape[2:]))
        return self.project_(self.x0 + direction / norm_of(direction) * length * self.radius * self.unit)


def norm_of(v: Tensor, order: float = 2, dtype: torch.dtype | None = None) -> Tensor:
    return torch.linalg.vector_norm(v, ord=order, dim=(2, 3, 4), keepdim=True, dtype=dtype)


def widest(x: Tensor) -> torch.dtype | None:
    """In which sums over many values are exact; None for their own type, where the device has no float64."""
    return None if "float64" in lacks(x.device) else torch.float64


def fraction(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole with 0 / 0 = 0: a point that has not moved has used none of its budget."""
    return torch.where((part == 0) & (whole == 0), 0, part / whole)


def add_(x: Tensor, direction: Tensor, stride: Tensor | None, size: float | Tensor) -> Tensor:
    """x += direction * stride * size, without multiplying by ones."""
    if isinstance(size, Tensor):
        scale = size[:, :, None, None, None]
        return x.addcmul_(direction, scale if stride is None else scale * stride)
    return x.add_(direction, alpha=size) if stride is None else x.addcmul_(direction, stride, value=size)


def drawn(draw: Callable[..., Tensor], x0: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Random numbers like x0, each batch from its own CPU generator, in float32 whatever x0 is."""
    if len(generators) != x0.shape[0]:
        raise ValueError(f"expected {x0.shape[0]} generators, one a batch, got {len(generators)}")
    return torch.stack([draw(x0.shape[1:], generator=g) for g in generators]).to(x0)


# Share of an input's values that a step moves: those of the largest slope (arXiv 1904.13000 takes 1%).
MOVED = 0.05


class L1Ball(Ball):
    """Sums of absolute moves, in units of each channel's deviation if given.

    A step moves few values: steepest ascent in l1 moves one, which is slow.
    """

    order = 1.0

    def project_(self, x: Tensor) -> Tensor:
        """Exact: the nearest point moves every value by as much less, but for those that the box holds.

        Value i moves by min(max(|v_i| - t, 0), room_i) for the one t >= 0 at which the moves sum up to the
        radius. Their sum is piecewise linear in t, with corners at |v_i| and |v_i| - room_i (prop. 2.1).
        """
        v = (x.to(self.unit) - self.x0) / self.unit
        size = v.abs().flatten(2)
        room = torch.where(v >= 0, self.high, -self.low).flatten(2)
        radius = self.radius.expand(*x.shape[:2], 1, 1, 1).flatten(2)
        # From the largest t down: one value more moves below |v_i|, one less below |v_i| - room_i.
        corners = torch.cat([size, (size - room).clamp_min(0)], -1)
        change = torch.cat([torch.ones_like(size), -torch.ones_like(size)], -1)
        corners, order = corners.sort(-1, descending=True)
        moving = change.gather(-1, order).cumsum(-1)
        lower = torch.cat([corners[..., 1:], torch.zeros_like(corners[..., :1])], -1)
        sums = (moving * (corners - lower)).cumsum(-1, dtype=widest(x))  # at the lower end of each stretch
        radius = radius.to(sums).contiguous()
        at = torch.searchsorted(sums, radius).clamp_max(sums.shape[-1] - 1)
        beyond = (sums.gather(-1, at) - radius).clamp_min(0)
        t = lower.gather(-1, at) + fraction(beyond, moving.gather(-1, at).clamp_min(1))
        t = torch.where(sums[..., -1:] <= radius, 0, t)
        moves = torch.minimum((size - t).clamp_min(0), room)
        total = moves.sum(-1, keepdim=True)
        moves = moves * torch.where(total > radius, fraction(radius, total), 1)
        inside = (moves.view_as(v) * v.sign()).mul_(self.unit)
        return x.copy_(moved(self.x0, inside)).to(self.x0.dtype)

    def step_(self, x: Tensor, grad: Tensor, size: float | Tensor) -> Tensor:
        return self.sparse_step_(x, grad, size, torch.full_like(grad[..., 0, 0, 0], MOVED))

    def sparse_step_(self, x: Tensor, grad: Tensor, size: float | Tensor, share: Tensor) -> Tensor:
        """``step_`` that moves this share [G, K] of the values, those of the largest slope, alike."""
        slope = (grad * self.unit).flatten(2)
        values = slope.shape[-1]
        count = (share * values).long().clamp(1, values)
        least = slope.abs().sort(-1, descending=True).values.gather(-1, count[..., None] - 1)
        signs = torch.where(slope.abs() >= least, slope.sign(), 0)
        direction = (signs / signs.abs().sum(-1, keepdim=True).clamp_min(1)).view_as(grad) * self.unit
        length = size[:, :, None, None, None] if isinstance(size, Tensor) else size
        return self.project_(x + direction * length * (1 if self._stride is None else self._stride))

    def uniform(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Uniform in the ball, then projected: exponential sizes with random signs, and one more size."""
        like = self.x0.to(self.unit)  # in half precision, a number may be 1
        u = drawn(torch.rand, like, generators)
        signs = drawn(torch.rand, like, generators).sub(0.5).sign()
        sizes = -torch.log1p(-u.clamp_max(1 - 1e-7))
        spare = torch.stack([torch.rand(self.x0.shape[1], generator=g) for g in generators]).to(like)
        spare = -torch.log1p(-spare.clamp_max(1 - 1e-7))[:, :, None, None, None]
        share = sizes / (sizes.sum((2, 3, 4), keepdim=True) + spare)
        return self.project_(self.x0 + signs * share * self.radius * self.unit)


def most(score: Tensor, count: float | Tensor) -> Tensor:
    """Of each input's pixels the ``count`` with the largest scores, ``[G, K, 1, H, W]``, bool.

    Args:
        score: ``[G, K, 1, H, W]``; of equal ones the first in row-major order count as larger.
        count: one number, or ``[G or 1, K or 1, 1, 1, 1]``.
    """
    order = torch.sort(score.flatten(2), dim=-1, descending=True, stable=True).indices
    return order.argsort(-1).view_as(score) < count


class L0Ball(Ball):
    """At most eps pixels differ from x0, each by as much as the box allows.

    A pixel is a position: all its channels together count as one, as in arXiv 1909.05040, 2006.12834 and
    2405.05075.
    """

    order = 0.0

    def __init__(self, x0: Tensor, eps: float, unit: Tensor, eps_scale: Tensor):
        self.x0, self.unit = x0, unit
        self.radius = torch.where(eps_scale == inf, prod(x0.shape[3:]), (eps * eps_scale).floor())

    def project_(self, x: Tensor) -> Tensor:
        """Exact: those pixels stay whose way back to x0 is longest, beside their way into the box."""
        inside = x.clamp(0, 1)
        spared = ((x - self.x0).square() - (x - inside).square()).sum(2, keepdim=True)
        return x.copy_(torch.where(most(spared, self.radius), inside, self.x0))

    def step_(self, x: Tensor, grad: Tensor, size: float | Tensor) -> Tensor:
        """Moves ``size`` pixels to the corner of the box at which a linear function is largest."""
        corner = torch.where(grad == 0, x, (grad > 0).to(x))
        gain = ((corner - x) * grad).sum(2, keepdim=True)
        count = size[:, :, None, None, None] if isinstance(size, Tensor) else size
        return self.project_(torch.where(most(gain, count), corner, x))

    def uniform(self, generators: Sequence[torch.Generator]) -> Tensor:
        return self._elsewhere(drawn(torch.rand, self.x0, generators), generators)

    def random_sign(self, generators: Sequence[torch.Generator]) -> Tensor:
        """eps random pixels, each channel of them black or white at random."""
        return self._elsewhere(drawn(torch.rand, self.x0, generators).round_(), generators)

    def _elsewhere(self, colours: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        score = drawn(torch.rand, self.x0[:, :, :1], generators)
        return torch.where(most(score, self.radius), colours, self.x0)

    def distance(self, x: Tensor) -> Tensor:
        return fraction(pixels_apart(x, self.x0), self.radius.flatten(1))


def pixels_apart(x: Tensor, x0: Tensor) -> Tensor:
    """In how many pixels two inputs ``[G, K, C, H, W]`` differ, ``[G, K]``, floating point."""
    return (x != x0).any(2).flatten(2).sum(-1).to(x0.dtype)
