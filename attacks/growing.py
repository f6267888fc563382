"""Ascent in balls that grow: for a defence that notices how far its input was moved.

A defence may answer by a fragile model near the clean input and by another one further out, where attacks
that use all of eps look. The ball of eps holds every smaller one, so what breaks the fragile model there is
an adversarial example. How far that reaches is not known: the radius grows as long as a larger ball holds
something better.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.better import larger
from attacks.early_stop import ascended
from attacks.estimators import Estimator
from attacks.losses import cross_entropy, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.wide import wide

STAGES = 8
RISE = 0.25  # of eps by which a ball grows at first; halved where the larger one holds nothing better
MOMENTUM = 0.75
FAR, NEAR = 0.5, 0.2  # steps in units of a ball's radius: in the first half of its steps, and in the second


@dataclass(frozen=True)
class Growing:
    """PGD with momentum on the margin, from the clean input, in one ball after another.

    Each ball is searched from the best point so far. Where it holds a better one, it is the next ball's core,
    and else the next is smaller: the radius ends near the largest at which the same model answers.

    Attributes:
        steps: gradients, divided among ``STAGES`` balls; at least two for each.
        early_stop: stop on an example at its first wrong answer. Only for targets that answer inputs one by
            one and without randomness.
    """

    steps: int
    early_stop: bool = False

    def __post_init__(self) -> None:
        if self.steps < 2 * STAGES:
            raise ValueError(f"expected steps >= {2 * STAGES}, got {self.steps}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; draws no random numbers. A start is projected onto the first ball.

        Raises:
            ValueError: also for ``early_stop`` with a budget that differs between slots.
        """
        begun = x.clone() if start is None else budget.around(x).project_(start.clone())
        return ascended(self._ascent, x, y, begun, estimator, budget, early_stop=self.early_stop)

    def _ascent(
        self, x: Tensor, y: Tensor, begun: Tensor, estimator: Estimator, budget: PerturbationBudget
    ) -> Tensor:
        loss = margin_loss if estimator.per_example else cross_entropy
        result, left = x.clone(), torch.arange(x.shape[1], device=x.device)  # positions of the rows below
        best, reached = x.clone(), torch.full_like(y, -torch.inf, dtype=x.dtype)
        core, rise = torch.zeros_like(reached), torch.full_like(reached, RISE)
        turns, scale = self.steps // STAGES, budget.eps_scale
        for stage in range(STAGES):
            share = (core + rise).clamp(max=1)
            ball = replace(budget, eps_scale=share if scale is None else share * scale).around(x)
            at = ball.project_((best if stage else begun).clone())
            velocity, before = torch.zeros_like(x), reached
            for turn in range(turns):
                if estimator.exhausted:
                    return result.index_copy(1, left, best)
                found = estimator.gradient(at, y, loss)
                assert found.grad is not None
                better = larger(estimator, found.loss, reached)
                reached = torch.where(better, found.loss, reached)
                best = torch.where(wide(better), at, best)
                slope = found.grad.nan_to_num(0, 0, 0)
                if self.early_stop:
                    result = result.index_copy(1, left, best)
                    right = found.logits[0].argmax(-1) == y[0]
                    if not bool(right.any()):
                        return result
                    if not bool(right.all()):
                        left = left[right]
                        x, y, best, at, velocity, slope, reached, before, core, rise, share = (
                            of[:, right]
                            for of in (
                                x, y, best, at, velocity, slope, reached, before, core, rise, share
                            )
                        )  # fmt: skip
                        ball = replace(budget, eps_scale=share).around(x)
                velocity = MOMENTUM * velocity + slope / wide(slope.abs().flatten(2).sum(2).clamp(min=1e-30))
                size = (FAR if 2 * turn < turns else NEAR) * budget.eps
                at = ball.step_(at.clone(), velocity, size)
            grew = reached > before
            core = torch.where(grew, share, core)
            rise = torch.where(grew, rise, rise / 2)
        return result.index_copy(1, left, best)
