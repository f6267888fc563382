"""FMN (arXiv 2102.12827): the radius shrinks around wrong answers and grows around right ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, inf, pi

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.losses import margin_loss
from attacks.nearest import Nearest, unit_length
from attacks.perturbation_budget import PerturbationBudget

# Of the paper: the length of a step and the relative change of the radius, first and last (cosine annealing).
STEP, LAST_STEP = 1.0, 0.01
CHANGE, LAST_CHANGE = 0.05, 0.001


@dataclass(frozen=True)
class Fmn:
    """Fast minimum-norm attack (algorithm 1), linf or l2: the budget's norm.

    Attributes:
        steps: moves; as many gradients, and one value for the last point.
    """

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"expected steps >= 1, got {self.steps}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; from x, or from ``start``."""
        ball = budget.around(x)
        nearest = Nearest(x, ball)
        adv = x if start is None else start
        radius = torch.full_like(nearest.distance, inf)
        dual = 1 if ball.order == inf else 2
        for step in range(self.steps):
            if estimator.exhausted:
                break
            answer = estimator.gradient(adv, y, margin_loss)
            assert answer.grad is not None
            grad = answer.grad * ball.unit
            wrong = nearest.see(adv, answer.logits, y)
            change = _annealed(CHANGE, LAST_CHANGE, step, self.steps)
            slope = torch.linalg.vector_norm(grad.flatten(2), ord=dual, dim=-1)
            to_boundary = answer.loss.abs() / slope.clamp(min=torch.finfo(x.dtype).tiny)
            u = nearest.away(adv)
            # A little further than the boundary of the linear model, on which an answer may still be right.
            beyond = (nearest.length(u) + to_boundary) * (1 + LAST_CHANGE)
            grown = torch.where(nearest.found, radius * (1 + change), beyond)
            radius = torch.where(wrong, torch.minimum(radius * (1 - change), nearest.distance), grown)
            # No point of the box is further away than this.
            radius = radius.clamp(max=x[0, 0].numel() / float(ball.unit.min()))
            u = u + _annealed(STEP, LAST_STEP, step, self.steps) * unit_length(grad)
            adv = nearest.at(_inside(u, radius, ball.order))
        if not estimator.exhausted:
            nearest.see(adv, estimator.value(adv, y, margin_loss).logits, y)
        return nearest.result()


def _annealed(first: float, last: float, step: int, steps: int) -> float:
    return last + (first - last) * (1 + cos(pi * step / steps)) / 2


def _inside(u: Tensor, radius: Tensor, order: float) -> Tensor:
    """``u`` projected onto the ball of each example's radius ``[G, K]`` around 0."""
    wide = radius[..., None, None, None]
    if order == inf:
        return u.clamp(-wide, wide)
    norm = torch.linalg.vector_norm(u, dim=(2, 3, 4), keepdim=True)
    return u * (wide / norm.clamp(min=torch.finfo(u.dtype).tiny)).clamp(max=1)
