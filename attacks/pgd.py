"""FGSM (arXiv 1412.6572), one step of size eps, and PGD (arXiv 1706.06083), ascent from a random start.

PGD's result is the last iterate. With momentum (arXiv 1710.06081) a step follows the gradients of all steps
so far, each divided by its mean absolute value. Against a randomised target this averages over the draws of
all steps, at one draw per step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.attack import AttackOnProblem, Problem
from attacks.estimators import Estimator
from attacks.losses import Loss, cross_entropy
from attacks.perturbation_budget import PerturbationBudget


@dataclass(frozen=True)
class Fgsm(AttackOnProblem):
    """Attributes:
    step_size: in units of eps's space; None for eps itself.
    loss: what the step increases.
    """

    step_size: float | None = None
    loss: Loss = cross_entropy

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.attack.Attack``; draws no random numbers."""
        x, y, estimator, budget, _, start = problem
        ball = budget.around(x)
        adv = x.clone() if start is None else ball.project_(start.clone())
        grad = estimator.gradient(adv, y, self.loss).grad
        assert grad is not None
        return ball.step_(adv, grad, budget.eps if self.step_size is None else self.step_size)


def default_step_size(eps: float, steps: int) -> float:
    """A quarter of eps for up to 20 steps, an eighth for more: 2/255 and 1/255 at eps = 8/255."""
    return eps / 4 if steps <= 20 else eps / 8


@dataclass(frozen=True)
class Pgd(AttackOnProblem):
    """Returns the last iterate, not the best: under a randomised target the largest loss is partly luck.

    Attributes:
        steps: number of steps, and of gradients.
        step_size: in units of eps's space; None for ``default_step_size``.
        loss: what the steps increase.
        early_stop: stop on an example at its first misclassified iterate, and continue with the others as
            one smaller batch. Only for targets that answer inputs one by one and without
            randomness.
        momentum: the decay factor of the accumulated gradients, in [0, 1].
    """

    steps: int
    step_size: float | None = None
    loss: Loss = cross_entropy
    early_stop: bool = False
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"expected steps >= 1, got {self.steps}")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"expected momentum in [0, 1], got {self.momentum}")

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.attack.Attack``.

        Raises:
            ValueError: also for ``early_stop`` with a budget that differs between slots.
        """
        x, y, estimator, budget, generators, start = problem
        ball = budget.around(x)
        adv = ball.uniform(generators) if start is None else ball.project_(start.clone())
        size = default_step_size(budget.eps, self.steps) if self.step_size is None else self.step_size
        if self.early_stop:
            x_all, y_all, adv_all = (tensor.flatten(0, 1)[None] for tensor in (x, y, adv))
            return self._early_stopping(x_all, y_all, adv_all, estimator, budget, size).view_as(x)
        velocity = torch.zeros_like(adv)
        for _ in range(self.steps):
            if estimator.exhausted:
                break
            grad = estimator.gradient(adv, y, self.loss).grad
            assert grad is not None
            velocity = self._velocity(velocity, grad)
            adv = ball.step_(adv, velocity, size)
        return adv

    def _velocity(self, before: Tensor, grad: Tensor) -> Tensor:
        """The direction of the next step; ``before`` is that of the last one, [G, K, C, H, W]."""
        if not self.momentum:
            return grad
        size = grad.abs().mean(dim=(-3, -2, -1), keepdim=True)
        return self.momentum * before + grad / size.clamp_min(torch.finfo(grad.dtype).tiny)

    def _early_stopping(
        self, x: Tensor, y: Tensor, adv: Tensor, estimator: Estimator, budget: PerturbationBudget, size: float
    ) -> Tensor:
        """Works on ``[1, G K, ...]``: the examples are independent, so all batches can form one."""
        budget.check_one_eps()
        ball, done, velocity = budget.around(x), torch.empty_like(adv), torch.zeros_like(adv)
        left = torch.arange(x.shape[1], device=x.device)  # positions of the rows of x, y and adv in done
        for _ in range(self.steps):
            if estimator.exhausted:
                break
            found = estimator.gradient(adv, y, self.loss)
            assert found.grad is not None
            velocity, wrong = self._velocity(velocity, found.grad), found.logits[0].argmax(-1) != y[0]
            if bool(wrong.any()):
                done[:, left[wrong]] = adv[:, wrong]
                keep = (~wrong).nonzero().squeeze(1)
                if not len(keep):
                    return done
                left = left[keep]
                x, y, adv, velocity = (of[:, keep] for of in (x, y, adv, velocity))
                ball = budget.around(x)
            adv = ball.step_(adv, velocity, size)
        done[:, left] = adv
        return done
