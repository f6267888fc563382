"""Attackers that differentiate the base model: alone (transfer), or in the defence's backward pass (BPDA)."""

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from attacks.estimators.averaging import DrawSet, Estimator, FreshDraws, Shared
from attacks.oracle import Oracle


class Transfer(Estimator):
    """Gradients of a base model, which classifies the G batches of K inputs as one batch of G K.

    Args:
        model: ``[B, C, H, W]`` in [0, 1] -> ``[B, classes]``.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], **shared: Unpack[Shared]):
        super().__init__(PlainModel(model), **shared)

    def draw_sets(self) -> Sequence[DrawSet]:
        return [()]


class PlainModel:
    """A model as a deterministic, per-example oracle."""

    randomised = False
    independent = True
    coupled = False

    def __init__(self, model: Callable[[Tensor], Tensor]):
        self.model = model

    def draws(self, index: int) -> DrawSet:
        return ()

    def logits(self, x: Tensor, draws: DrawSet) -> Tensor:
        # A copy: a model may answer in one buffer again and again.
        return self.model(x.flatten(0, 1)).clone().unflatten(0, x.shape[:2])

    def images(self, x: Tensor) -> int:
        return x.shape[0] * x.shape[1]


class Bpda(FreshDraws):
    """EOT-M with the defence's losses and the base model's Jacobian (arXiv 1802.00420, sec. 4.1).

    The defence need not be differentiable. A gradient runs both forwards and only the base model backwards.

    Args:
        oracle: the defence.
        base: ``[B, C, H, W]`` in [0, 1] -> ``[B, classes]``.
        draws: fresh draws per query.
    """

    def __init__(
        self,
        oracle: Oracle,
        base: Callable[[Tensor], Tensor],
        *,
        draws: int = 1,
        **shared: Unpack[Shared],
    ):
        super().__init__(_BackwardThroughBase(oracle, base), draws=draws, **shared)

    def _cost(self, x: Tensor, differentiated: bool) -> tuple[int, int]:
        base = x.shape[0] * x.shape[1] if differentiated else 0
        return self.oracle.images(x) + base, base


class _BackwardThroughBase:
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
