"""Perturbations of low frequencies, which purification by diffusion, noise or compression lets pass.

The set is that of arXiv 1809.08758 and 1903.00073: clip(x0 + d, 0, 1) for every d inside the norm's ball
whose cosine transform (DCT-II, orthonormal, of each channel) vanishes outside the lowest ``size`` x ``size``
frequencies. d itself may leave the box: where x0 is black or white, a smooth perturbation is cut off there,
as it is in a picture.

Whether an input belongs to the set is a question of convex optimisation: a pixel inside the box fixes d, one
at its edge bounds it, and frequencies and ball do the rest. It is answered by accelerated projections
(FISTA), to half of a grey level: pictures of 8 bits have no finer ones. What they find is a certificate, and
an input for which they find none is refused: they minimise squares, so that an input close to the tolerance
may be refused that a linear program would admit.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import inf, pi

import torch
from torch import Tensor

from attacks.accelerator import double
from attacks.balls import Ball, drawn, fraction, moved, norm_of

TOLERANCE = 0.5 / 255  # how far each pixel of an input may be from a point of the set
# Rounds of projections in a step of an attack: beyond the box's edges, and into the ball of linf.
FILLING, ROUNDS = 4, 20
# Rounds that look for a certificate, in float64, where at most so many times the tolerance is left before:
# points of the set are within 15 times after 10 rounds, 2 times after 30, and inside after 100.
MORE_ROUNDS = (30, 100), (100, 10), (400, 3)


@lru_cache(maxsize=64)
def cosines(length: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The lowest frequencies of the orthonormal DCT-II, ``[size, length]``."""
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    position = torch.arange(length, dtype=torch.float64) + 0.5
    waves = torch.cos(pi / length * frequency * position) * (2 / length) ** 0.5
    waves[0] /= 2**0.5
    return waves.to(device=device, dtype=dtype)


class LowFrequencyBall(Ball):
    """The low frequencies inside a ball of linf or l2; a free slot may go anywhere in the box.

    Args:
        x0, eps, unit, eps_scale: as of ``Ball``.
        order: inf or 2.
        size: of the ``size`` x ``size`` lowest frequencies, at most the height and the width.
    """

    solid = False

    def __init__(self, x0: Tensor, eps: float, unit: Tensor, eps_scale: Tensor, *, order: float, size: int):
        if size > min(x0.shape[3:]):
            raise ValueError(f"expected at most {min(x0.shape[3:])} frequencies on such images, got {size}")
        self.order, self.size = order, size
        super().__init__(x0, eps, unit, eps_scale)
        self._free = (eps_scale == inf) if bool((eps_scale == inf).any()) else None

    def project_(self, x: Tensor) -> Tensor:
        """A point of the set near ``x``; the nearest has no closed form, and the set is not convex."""
        d = self._nearest(self._fit(x, FILLING, inside=False))
        near = moved(self.x0, d.mul_(self.unit))
        if self._free is not None:
            near = torch.where(self._free, x.clamp(0, 1).to(near), near)
        return x.copy_(near).to(self.x0.dtype)

    def step_(self, x: Tensor, grad: Tensor, size: float | Tensor) -> Tensor:
        """By the signs of the gradient's low frequencies (linf), or along these (l2)."""
        slope = self._low(grad.to(self.unit) * self.unit)
        if self.order == inf:
            direction = slope.sign()
        else:
            direction = slope / norm_of(slope).clamp(min=torch.finfo(slope.dtype).tiny)
        length = size[:, :, None, None, None] if isinstance(size, Tensor) else size
        step = direction * self.unit * length * (1 if self._stride is None else self._stride)
        return self.project_(x + step.to(x))

    def uniform(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Random coefficients, scaled to a random share of the radius."""
        share = torch.stack([torch.rand(self.x0.shape[1], generator=g) for g in generators])
        noise = drawn(torch.randn, self.x0, generators)
        return self._scaled(noise, share.to(self.unit)[:, :, None, None, None])

    def random_sign(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Random signs, of which the low frequencies are kept and scaled to the radius."""
        return self._scaled(drawn(torch.rand, self.x0, generators).sub_(0.5).sign_(), 1.0)

    def _scaled(self, noise: Tensor, share: Tensor | float) -> Tensor:
        d = self._low(noise.to(self.unit))
        d = d * fraction(self.radius, norm_of(d, self.order)) * share
        return moved(self.x0, d.mul_(self.unit))

    def distance(self, x: Tensor) -> Tensor:
        """As in the norm itself; above 1 if no point of the set lies within ``TOLERANCE``."""
        tolerance = max(TOLERANCE, torch.finfo(x.dtype).eps)
        off = self._off(x, self._fit(x, ROUNDS, inside=True)).double()
        if self._free is not None:
            off = torch.where(self._free, 0, off)
        for rounds, hope in MORE_ROUNDS:
            close = ((off > tolerance) & (off <= hope * tolerance)).flatten(1)
            if not bool(close.any()):
                break
            rows = self._of(close)
            off[close] = rows._off(x[close][None], rows._fit(x[close][None], rounds, inside=True))[0]
        beyond = 1 + fraction(off / double(self.unit).amin(2, keepdim=True), double(self.radius))
        outside = torch.where(off > tolerance, beyond, 0).flatten(1).to(self.unit)
        return torch.maximum(super().distance(x), outside)

    def _of(self, rows: Tensor) -> "LowFrequencyBall":
        """The ball in float64 around these inputs ``[G, K]``, as one batch."""
        x0, unit = double(self.x0[rows][None]), double(self.unit)
        ball = LowFrequencyBall(
            x0, 0.0, unit, torch.ones_like(unit[:, :, :1]), order=self.order, size=self.size
        )
        ball.radius = double(self.radius.expand(*self.x0.shape[:2], 1, 1, 1)[rows][None])
        return ball

    def _low(self, v: Tensor) -> Tensor:
        """The low frequencies of ``v`` ``[..., H, W]``; a free slot keeps all of its own."""
        down, across = (cosines(n, self.size, v.dtype, v.device) for n in v.shape[-2:])
        low = down.T @ (down @ v @ across.T) @ across
        return low if self._free is None else torch.where(self._free, v, low)

    def _inside(self, d: Tensor) -> Tensor:
        """``d`` shortened to the radius."""
        return d * fraction(self.radius, norm_of(d, self.order)).clamp(max=1)

    def _off(self, x: Tensor, d: Tensor) -> Tensor:
        """How far ``x`` is from clip(x0 + d), the largest over an input's pixels ``[G, K, 1, 1, 1]``."""
        return norm_of(x - (self.x0 + d * self.unit).clamp(0, 1), inf)

    def _nearest(self, d: Tensor) -> Tensor:
        """The ball's nearest point to ``d`` of low frequencies; in linf nearly (Dykstra's projections)."""
        if self.order == inf:
            beyond = torch.zeros_like(d)
            for _ in range(ROUNDS):
                far = d + beyond
                held = far.clamp(-self.radius, self.radius)
                beyond, d = far - held, self._low(held)
        return self._inside(d)

    def _fit(self, x: Tensor, rounds: int, *, inside: bool) -> Tensor:
        """d of low frequencies with x0 + d near ``x``, and beyond the box's edges, or ``inside`` the ball."""
        v = (x.to(self.unit) - self.x0) / self.unit
        reach = (
            self.radius if inside and self.order == inf else torch.full_like(self.radius, inf)
        ).expand_as(v)
        black, white = x <= TOLERANCE, x >= 1 - TOLERANCE
        low = torch.where(black, -inf, torch.where(white, torch.minimum(v, self.high), v))
        high = torch.where(white, inf, torch.where(black, torch.maximum(v, self.low), v))
        low, high = low.clamp(-reach, reach), high.clamp(-reach, reach)
        d = ahead = self._low(v)
        momentum = 1.0
        for _ in range(rounds):
            nearer = self._low(ahead.clamp(low, high))
            if inside and self.order != inf:
                nearer = self._inside(nearer)
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = nearer + (momentum - 1) / following * (nearer - d)
            d, momentum = nearer, following
        return self._inside(d) if inside else d
