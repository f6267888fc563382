"""PDPGD (arXiv 2106.01538): a perturbation's norm and the weight of a wrong answer beside it, as two players.

One player lowers w0 * norm + w1 * loss in the perturbation: a step of Adam on the loss, then the proximal
operator of the norm. The other raises it in the weights: w1 grows while the answer is right, w0 while it is
wrong. It is the one attack here that looks for the nearest wrong answer in l1, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.losses import margin_loss
from attacks.nearest import Nearest
from attacks.perturbation_budget import PerturbationBudget

# Of the paper's experiments: the length of a step, first and last; the ratio w0 / w1 to begin with, and its
# ends; the step of its logarithm, first and last; the memory of the weights that the first player sees.
STEP, LAST_STEP = 0.1, 0.001
RATIO, SMALLEST_RATIO = 0.01, 1e-6
WEIGHT_STEP, LAST_WEIGHT_STEP = 0.1, 0.01
MEMORY = 0.9
# Adam's, and rounds of the proximal operator in its metric (arXiv 1910.10094).
FIRST_MOMENT, SECOND_MOMENT, TINY = 0.9, 0.999, 1e-8
ROUNDS = 5


@dataclass(frozen=True)
class Pdpgd:
    """Primal-dual proximal gradient descent (algorithm 2) in the budget's norm.

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
        u = torch.zeros_like(x) if start is None else nearest.away(start)
        mean, square = torch.zeros_like(u), torch.zeros_like(u)
        ratio = torch.full_like(nearest.distance, log(1 / RATIO))  # log of w1 / w0
        share = torch.sigmoid(ratio)  # w1, where both sum up to 1
        for step in range(self.steps):
            if estimator.exhausted:
                break
            answer = estimator.gradient(nearest.at(u), y, margin_loss)
            assert answer.grad is not None
            wrong = nearest.see(nearest.at(u), answer.logits, y)
            # Of softplus(margin) while the answer is right; after that only the norm counts.
            slope = torch.where(wrong, 0, -torch.sigmoid(-answer.loss))[..., None, None, None]
            grad = slope * answer.grad * ball.unit
            mean = FIRST_MOMENT * mean + (1 - FIRST_MOMENT) * grad
            square = SECOND_MOMENT * square + (1 - SECOND_MOMENT) * grad.square()
            metric = (square / (1 - SECOND_MOMENT ** (step + 1))).sqrt() + TINY
            size = STEP * (LAST_STEP / STEP) ** (step / self.steps)
            moved = u - size * mean / (1 - FIRST_MOMENT ** (step + 1)) / metric
            steepest = metric.amax((2, 3, 4))
            weight = (1 - share) / share * size / steepest
            u = _in_box(moved, nearest)
            for _ in range(ROUNDS):
                gap = (moved - u) * metric / steepest[..., None, None, None]
                u = _in_box(_proximal(u + gap, weight, ball.order), nearest)
            rise = WEIGHT_STEP + (LAST_WEIGHT_STEP - WEIGHT_STEP) * step / max(1, self.steps - 1)
            ratio = (ratio + torch.where(wrong, -rise, rise)).clamp(log(SMALLEST_RATIO), -log(SMALLEST_RATIO))
            share = MEMORY * share + (1 - MEMORY) * torch.sigmoid(ratio)
        if not estimator.exhausted:
            nearest.see(nearest.at(u), estimator.value(nearest.at(u), y, margin_loss).logits, y)
        return nearest.result()


def _in_box(u: Tensor, nearest: Nearest) -> Tensor:
    return nearest.away(nearest.at(u))


def _proximal(v: Tensor, weight: Tensor, order: float) -> Tensor:
    """The z that minimises |z - v|_2^2 / 2 + weight * |z|; ``weight`` [G, K], the norm by its order."""
    wide = weight[..., None, None, None]
    if order == 1:
        return (v.abs() - wide).clamp_min(0) * v.sign()
    if order == 2:
        norm = torch.linalg.vector_norm(v, dim=(2, 3, 4), keepdim=True)
        return v * (1 - wide / norm.clamp_min(torch.finfo(v.dtype).tiny)).clamp_min(0)
    assert order == inf
    # All is cut at the height t beyond which the sizes sum up to the weight.
    sizes = v.abs().flatten(2).sort(-1, descending=True).values
    count = torch.arange(1, sizes.shape[-1] + 1, device=v.device)
    heights = (sizes.cumsum(-1) - weight[..., None]) / count
    last = (sizes > heights).sum(-1, keepdim=True).clamp_min(1) - 1
    height = heights.gather(-1, last).clamp_min(0)[..., None, None]
    return v.clamp(-height, height)
