"""FGSM (arXiv 1412.6572), one step of size eps, and PGD (arXiv 1706.06083), ascent from a random start.

PGD's result is the last iterate. With momentum (arXiv 1710.06081) a step follows the gradients of all steps
so far, each divided by its mean absolute value. Against a randomised target this averages over the draws of
all steps, at one draw per step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.losses import Loss, cross_entropy, margin_loss
from attacks.solver import Problem, Solver, larger, wide


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


# Gradient attacks move every value as far as it may go, and a defence can notice that: by how many values
# moved, where, which way, or how far. It then answers by a model whose slope leads nowhere. Each part lies in
# the ball of eps: where one of them finds more, the other attacks failed.

MOMENTUM = 0.75
FAR, NEAR = 0.5, 0.2  # steps of eps: in the first half of a run with momentum, and in the second


@dataclass(frozen=True)
class Part:
    """Points of the ball that an attack confines itself to.

    Attributes:
        confine: a point and the clean input, ``[G, K, C, H, W]`` each, to the point that the part allows.
        share: how much of eps is used.
    """

    confine: Callable[[Tensor, Tensor], Tensor]
    share: float = 1.0


def _where(inside: Callable[[Tensor, Tensor], Tensor]) -> Part:
    """Keeps what moved ``inside``, a function of row and column, both 0 in the middle of the image."""

    def confine(at: Tensor, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        row = torch.arange(height, device=x.device)[:, None] - (height - 1) / 2
        column = torch.arange(width, device=x.device) - (width - 1) / 2
        return torch.where(inside(row, column).expand(height, width), at, x)

    return Part(confine)


PARTS = (
    Part(torch.maximum),
    Part(torch.minimum),
    Part(lambda at, x: at, share=0.5),
    _where(lambda row, column: row <= 0),
    _where(lambda row, column: row > 0),
    _where(lambda row, column: column <= 0),
    _where(lambda row, column: column > 0),
    _where(lambda row, column: row <= column),
    _where(lambda row, column: row > column),
    _where(lambda row, column: row + column <= 0),
    _where(lambda row, column: row + column > 0),
    _where(lambda row, column: (row + column) % 2 < 1),
)


@Algorithm(
    "Parts", "ascent in parts of the ball", example=60, loss="margin", fewest_steps=24, informative=False
)
@dataclass(frozen=True)
class Parts(Solver):
    """PGD with momentum on the margin, from the clean input, in each part; returns the best point of all.

    A start is confined to each part. The gradients are divided among the parts, at least two for each. No
    random numbers are drawn.

    Attributes:
        steps: gradients.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``.

        Raises:
            ValueError: also for ``early_stop`` with a budget that differs between slots.
        """
        x, y, estimator, budget, _, start = problem
        shape, loss = x.shape, margin_loss if estimator.per_example else cross_entropy
        begun = x.clone() if start is None else budget.around(x).project_(start.clone())
        if self.early_stop:  # the examples are independent, so all batches can form one
            budget.check_one_eps()
            x, y, begun = (of.flatten(0, 1)[None] for of in (x, y, begun))
        live = torch.arange(y.shape[1], device=y.device)  # positions of the rows of x and the like in done
        done = best = begun
        reached = torch.full_like(y, -torch.inf, dtype=x.dtype)
        for part in PARTS:
            inner = replace(budget, eps=part.share * budget.eps)
            ball = inner.around(x)
            at, velocity = part.confine(ball.project_(begun.clone()), x), torch.zeros_like(x)
            steps = self.steps // len(PARTS)
            for step in range(steps):
                estimate = estimator.gradient(at, y, loss)
                grad, better = estimate.grad, larger(estimator, estimate.loss, reached)
                reached = torch.where(better, estimate.loss, reached)
                best = torch.where(wide(better), at, best)
                if self.early_stop and not bool((right := estimate.logits[0].argmax(-1) == y[0]).all()):
                    done, live = done.index_copy(1, live, best), live[right]
                    if not live.numel():
                        return done.view(shape)
                    state = (x, y, begun, at, velocity, grad, best, reached)
                    x, y, begun, at, velocity, grad, best, reached = (of[:, right] for of in state)
                    ball = inner.around(x)
                slope = grad.nan_to_num(0, 0, 0)
                length = slope.abs().flatten(2).sum(2)
                velocity = MOMENTUM * velocity + slope / wide(length.clamp(min=1e-30))
                size = (FAR if 2 * step < steps else NEAR) * inner.eps
                at = part.confine(ball.step_(at.clone(), velocity, size), x)
        return done.index_copy(1, live, best).view(shape)
