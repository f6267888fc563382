"""Perturbation budgets: a norm, a radius, and the space in which the radius is measured."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from attacks.balls import Ball, L0Ball, L1Ball, L2Ball, LinfBall
from attacks.norms import NORMS, Norm

EpsSpace = Literal["pixel", "normalized"]


_BALLS: dict[str, type[Ball]] = {
    "linf": LinfBall,
    "l2": L2Ball,
    "l1": L1Ball,
    "l0": L0Ball,
}


@dataclass(frozen=True)
class PerturbationBudget:
    """Norm, radius and space of the perturbation allowed for each input of a batch.

    Attributes:
        norm: "linf", "l2" or "l1", taken over one input's channels and pixels; or "l0", the number of pixels
            that differ in any channel.
        eps: the radius, 8/255 and never 8. For "pixel" in units of [0, 1]; for "normalized" in units of each
            channel's deviation, so that channel c may move by ``eps * deviation[c]`` (linf). A whole number
            for "l0", which has no other space than "pixel".
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
        if self.norm not in NORMS:
            raise ValueError(f"expected norm linf, l2, l1 or l0, got {self.norm!r}")
        if not isfinite(self.eps) or self.eps < 0:
            raise ValueError(f"expected a finite eps >= 0, got {self.eps}")
        if self.norm == "linf" and self.eps_space == "pixel" and self.eps > 1:
            raise ValueError(f"expected eps on the scale of [0, 1] (8/255, not 8), got {self.eps:g}")
        if self.norm == "l0" and (self.eps % 1 or self.eps_space != "pixel"):
            raise ValueError(f"expected a whole number of pixels for l0, got {self.eps:g} ({self.eps_space})")
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

    def check_one_eps(self) -> None:
        """For attacks that stop early, which mix the slots of all batches.

        Raises:
            ValueError: eps differs between slots.
        """
        if self.eps_scale is not None:
            raise ValueError("expected one eps for all slots to stop early, got eps_scale")

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
        unit = x0.new_ones(1, 1, 1, 1, 1, dtype=torch.promote_types(x0.dtype, torch.float32))
        eps_scale = unit
        if self.deviation is not None:
            unit = unit.new_tensor(self.deviation).view(1, 1, -1, 1, 1)
        if self.eps_scale is not None:
            eps_scale = self.eps_scale.to(unit)[:, :, None, None, None]
        return _BALLS[self.norm](x0, self.eps, unit, eps_scale)
