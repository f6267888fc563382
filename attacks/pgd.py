"""FGSM (arXiv 1412.6572), one step of size eps, and PGD (arXiv 1706.06083), ascent from a random start.

PGD's result is the last iterate. With momentum (arXiv 1710.06081) a step follows the gradients of all steps
so far, each divided by its mean absolute value. Against a randomised target this averages over the draws of
all steps, at one draw per step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.losses import Loss, cross_entropy, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.solver import Problem, Solver


@Algorithm(
    "FGSM",
    "FGSM",
    paper="1412.6572",
    takes=("step_size",),
    loss="ce",
    costs="a gradient",
    step_size=lambda eps, steps: eps,
    stops_early=False,
    informative=False,
)
@dataclass(frozen=True)
class Fgsm(Solver):
    """One step of eps from the clean input.

    Attributes:
        step_size: in units of eps's space; None for eps itself.
        loss: what the step increases.
    """

    step_size: float | None = None
    loss: Loss = cross_entropy

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; draws no random numbers."""
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
class Pgd(Solver):
    """Returns the last iterate, not the best: under a randomised target the largest loss is partly luck.

    Attributes:
        steps: number of steps, and of gradients.
        step_size: in units of eps's space; None for ``default_step_size``.
        loss: what the steps increase.
        early_stop: stop on an example at its first misclassified iterate, and continue with the others as
            one smaller batch. Only for targets that answer inputs one by one and without
            randomness.
        momentum: the decay factor of the accumulated gradients, in [0, 1].
        begins_clean: whether it begins at the clean input instead of a random one.
    """

    steps: int
    step_size: float | None = None
    loss: Loss = cross_entropy
    momentum: float = 0.0
    begins_clean: bool = False

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``.

        Raises:
            ValueError: also for ``early_stop`` with a budget that differs between slots.
        """
        x, y, estimator, budget, generators, start = problem
        ball = budget.around(x)
        start = x if start is None and self.begins_clean else start
        adv = ball.uniform(generators) if start is None else ball.project_(start.clone())
        size = default_step_size(budget.eps, self.steps) if self.step_size is None else self.step_size
        shape = x.shape
        if self.early_stop:  # the examples are independent, so all batches can form one
            budget.check_one_eps()
            x, y, adv = (tensor.flatten(0, 1)[None] for tensor in (x, y, adv))
            ball = budget.around(x)
        done, velocity = adv, torch.zeros_like(adv)
        live = torch.arange(x.shape[1], device=x.device)  # positions of the rows of x, y and adv in done
        for _ in range(self.steps):
            estimate = estimator.gradient(adv, y, self.loss)
            assert estimate.grad is not None
            if self.momentum:
                sizes = estimate.grad.abs().mean(dim=(-3, -2, -1), keepdim=True)
                tiny = torch.finfo(estimate.grad.dtype).tiny
                velocity = self.momentum * velocity + estimate.grad / sizes.clamp_min(tiny)
            else:
                velocity = estimate.grad
            if self.early_stop and not bool((right := estimate.logits[0].argmax(-1) == y[0]).all()):
                done = done.index_copy(1, live, adv)
                if not bool(right.any()):
                    return done.view(shape)
                live = live[right]
                x, y, adv, velocity = (of[:, right] for of in (x, y, adv, velocity))
                ball = budget.around(x)
            adv = ball.step_(adv, velocity, size)
        return done.index_copy(1, live, adv).view(shape) if self.early_stop else adv


def standing_under_pgd(
    model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, budget: PerturbationBudget, steps: int
) -> int:
    """How many images are answered rightly at every step of PGD from the clean image on: a quick look.

    Args:
        model: pixels to logits, differentiable and not random; asked about the images that still stand.
        x: [n, C, H, W] in [0, 1], n may be 0.
        y: [n] int64.
        steps: of a quarter of eps each.
    """
    adv = x
    for step in range(steps + 1):
        if not len(x):
            break
        adv = adv.detach().requires_grad_()
        with torch.enable_grad():
            # Not the cross-entropy: its gradient vanishes where a wrong normalisation makes logits large.
            loss = margin_loss(model(adv), y)
            (gradient,) = torch.autograd.grad(loss.sum(), adv)
        right = loss < 0
        x, y, adv, gradient = x[right], y[right], adv.detach()[right], gradient[right]
        if step < steps and len(x):
            adv = budget.around(x[None]).step_(adv[None], gradient[None], budget.eps / 4)[0]
    return len(x)
