"""Where an attack may move one image: the ball of radius eps around it within the box [0, 1]."""

from dataclasses import dataclass

import torch
from torch import Tensor

# An attack's projection works in float32: it may leave the ball by the last bits of a pixel, and by 1e-5 of
# eps where inputs are submitted to another subject.
BEYOND = 2e-6
BEYOND_SHARE = 2e-5


@dataclass(frozen=True)
class Region:
    """n images, each in its own ball within the box.

    Attributes:
        centre: [n, *shape], float64.
        low, high: like it; the smallest box around the ball within [0, 1].
        l2: radius [n] of each ball in l2, in units of ``unit``; None for l-infinity, where the box is all.
        unit: a channel's pixel units in one unit of eps, [C, 1, 1] or a scalar.
    """

    centre: Tensor
    low: Tensor
    high: Tensor
    l2: Tensor | None
    unit: Tensor

    @classmethod
    def around(cls, x: Tensor, norm: str, eps: float, unit: Tensor | None = None) -> "Region":
        """The region of every image of x [n, C, H, W] in [0, 1].

        Args:
            norm: ``linf``, ``l2`` or ``l1``; the ball of the last lies in that of l2.
            unit: [C], the deviations that a normalized eps is measured in; None for pixels.
        """
        x = x.double()
        unit = x.new_ones(()) if unit is None else unit.to(x).view(-1, 1, 1)
        eps = eps * (1 + BEYOND_SHARE)
        radius = eps * unit + BEYOND
        beyond = BEYOND * x[0].numel() ** 0.5 / float(unit.min())
        return cls(
            centre=x,
            low=torch.minimum((x - radius).clamp(0, 1), x),
            high=torch.maximum((x + radius).clamp(0, 1), x),
            l2=x.new_full((len(x),), eps + beyond) if norm in ("l2", "l1") else None,
            unit=unit,
        )

    def __getitem__(self, rows: slice | Tensor) -> "Region":
        l2 = None if self.l2 is None else self.l2[rows]
        return Region(self.centre[rows], self.low[rows], self.high[rows], l2, self.unit)

    def __len__(self) -> int:
        return len(self.centre)

    def moved(self, by: Tensor) -> "Region":
        """The same with every image shifted by ``by``: noise that the attack knows."""
        return Region(self.centre + by, self.low + by, self.high + by, self.l2, self.unit)

    def reach(self) -> Tensor:
        """How far each image can move in l2, in pixel units, [n]."""
        furthest = torch.maximum(self.high - self.centre, self.centre - self.low).flatten(1).norm(dim=1)
        return furthest if self.l2 is None else torch.minimum(furthest, self.l2 * float(self.unit.max()))

    def mixed(self, weights: Tensor) -> "Region":
        """The regions of the mixtures ``weights`` [m, n] x of the n images, each for itself."""
        positive, negative = weights.clamp(min=0), weights.clamp(max=0)

        def mix(w: Tensor, x: Tensor) -> Tensor:
            return torch.tensordot(w, x, dims=1)

        return Region(
            mix(weights, self.centre),
            mix(positive, self.low) + mix(negative, self.high),
            mix(positive, self.high) + mix(negative, self.low),
            None if self.l2 is None else weights.abs() @ self.l2,
            self.unit,
        )

    def least(self, a: Tensor) -> Tensor:
        """A lower bound [n, S] on a . x over the region; a is [n, S, *shape]. Exact for l-infinity.

        In l2 the larger of the least over the ball and the least over the box.
        """
        found = times(a, (self.high + self.low) / 2) - times(a.abs(), (self.high - self.low) / 2)
        if self.l2 is None:
            return found
        length = (a * self.unit).flatten(2).norm(dim=2)
        return torch.maximum(found, times(a, self.centre) - self.l2.unsqueeze(1) * length)


def times(a: Tensor, value: Tensor) -> Tensor:
    """Inner products [n, S] of a [n, S, *shape] with value [n or 1, *shape]."""
    product = a * value.unsqueeze(1)
    return product.reshape(*a.shape[:2], -1).sum(2)
