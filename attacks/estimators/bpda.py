"""BPDA: the defence in the forward pass, the base model in the backward pass."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from attacks.estimators.transfer import PlainModel
from attacks.estimators.unknown_draw import FreshDraws
from attacks.objective import Objective
from attacks.oracle import Oracle


class Bpda(FreshDraws):
    """EOT-M with the defence's losses and the base model's Jacobian (arXiv 1802.00420, sec. 4.1).

    The defence need not be differentiable. A gradient runs both forwards and only the base model backwards.

    Args:
        oracle: the defence.
        base: ``[B, C, H, W]`` in [0, 1] -> ``[B, classes]``.
        draws: fresh draws per query.
        max_images, objective: as in ``AveragingEstimator``.
    """

    def __init__(
        self,
        oracle: Oracle,
        base: Callable[[Tensor], Tensor],
        *,
        draws: int = 1,
        max_images: int = 512,
        objective: Objective | None = None,
    ):
        target = _StraightThrough(oracle, base)
        super().__init__(target, draws=draws, max_images=max_images, objective=objective)

    def _cost(self, x: Tensor, passes: int) -> tuple[int, int]:
        base = x.shape[0] * x.shape[1]
        return self.oracle.images(x) + (base if passes else 0), passes * base


class _StraightThrough:
    """The defence's logits with the base model's autograd graph."""

    def __init__(self, oracle: Oracle, base: Callable[[Tensor], Tensor]):
        self.oracle, self.base = oracle, PlainModel(base)
        self.randomised, self.independent = oracle.randomised, oracle.independent
        self.coupled = getattr(oracle, "coupled", not oracle.independent)
        self.draws, self.images = oracle.draws, oracle.images
        self.reject: int | None = getattr(oracle, "reject", None)

    def logits(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        with torch.no_grad():
            answer = self.oracle.logits(x, draws)
        if not torch.is_grad_enabled():
            return answer
        base = self.base.logits(x, ())
        if self.reject is not None and base.shape[-1] < answer.shape[-1]:  # the base rejects nothing
            nothing = torch.zeros_like(base[..., :1])
            base = torch.cat([base[..., : self.reject], nothing, base[..., self.reject :]], -1)
        return answer + (base - base.detach())
