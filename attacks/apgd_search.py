"""One search by Auto-PGD (arXiv 2003.01690, algorithm 1): its runs, and the best points of all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from attacks.better import better_of, larger
from attacks.estimators import Estimator
from attacks.losses import Loss, margin_loss
from attacks.perturbation_budget import PerturbationBudget
from attacks.wide import wide

# The paper's constants: the weight of the newest step; a step size is kept while more than a share RHO of
# its steps raised the loss; the checkpoints, as shares of all steps.
MOMENTUM = 0.75
RHO = 0.75
FIRST_INTERVAL, SHORTER_BY, SHORTEST_INTERVAL = 0.22, 0.03, 0.06
# Steps between checkpoints where each of them asks twice.
FEWEST_NOISY = 5


@dataclass
class Examples:
    """The state of each example: ``[G, K, ...]`` tensors, indexed together when examples stop."""

    slot: Tensor  # where the example lies in its batch
    x0: Tensor
    y: Tensor
    goal: Tensor  # what the loss takes in place of y
    x: Tensor
    last_x: Tensor
    grad: Tensor
    loss: Tensor
    wrong: Tensor  # whether x is answered wrongly
    size: Tensor  # of the step, in units of eps
    rises: Tensor  # steps since the last checkpoint that raised the loss
    halved: Tensor  # whether the step size was halved at the last checkpoint
    best_x: Tensor
    best_grad: Tensor
    best_loss: Tensor
    checked_loss: Tensor  # best_loss at the last checkpoint

    def select(self, chosen: Tensor) -> Self:
        return type(self)(*(getattr(self, field.name)[:, chosen] for field in fields(self)))


class Search:
    """Runs of Auto-PGD, each from its own start and towards its own goal, and the best points so far.

    Runs may raise different losses, so their results are compared by their margins (``attacks.better``).

    Args:
        steps: moves of every run.
        early_stop: later runs leave out examples that are answered wrongly. All examples then form one batch.

    Attributes:
        x0, y: the clean inputs and labels as the search holds them, ``[1, G K, ...]`` where it stops early.
        best_x: the best points so far, clean inputs before the first run.
        left: the slots still attacked; those of all batches.
    """

    def __init__(
        self,
        estimator: Estimator,
        budget: PerturbationBudget,
        x: Tensor,
        y: Tensor,
        steps: int,
        *,
        early_stop: bool,
    ):
        if early_stop:
            budget.check_one_eps()
        self.estimator, self.budget, self.steps, self.early_stop = estimator, budget, steps, early_stop
        self._ball, self._like = budget.around(x), x
        self.x0, self.y = self._held(x), self._held(y)
        self.best_x, self._found_any = self.x0.clone(), False
        self._best = torch.full(self.y.shape, -torch.inf, dtype=x.dtype, device=x.device)
        self.left = torch.arange(self.y.shape[1], device=y.device)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to attack, or nothing to pay for it with."""
        return self.estimator.exhausted or not len(self.left)

    def uniform(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Random starts, as the search holds them."""
        return self._held(self._ball.uniform(generators))

    def project(self, start: Tensor) -> Tensor:
        """Starts ``[G, K, ...]`` inside the ball, as the search holds them."""
        return self._held(self._ball.project_(start.clone()))

    def result(self) -> Tensor:
        """The best points, ``[G, K, C, H, W]``."""
        return self.best_x.view_as(self._like)

    def _held(self, tensor: Tensor) -> Tensor:
        # The examples are independent, so those that are left can form one batch.
        return tensor.flatten(0, 1)[None] if self.early_stop else tensor

    def run(self, start: Tensor, goal: Tensor, loss: Loss, *, alone: bool = False) -> None:
        """One run of Auto-PGD on the examples left.

        Args:
            start: ``[G, K, C, H, W]``, goal: ``[G, K, ...]``, both as the search holds them.
            alone: no other run will be compared with it.
        """
        if self.over:
            return
        left = self.left
        found, wrong = self.x0.clone(), torch.zeros_like(self.y, dtype=torch.bool)
        for done in self._run(self.x0[:, left], self.y[:, left], goal[:, left], start[:, left], left, loss):
            found[:, done.slot[0]] = done.x
            wrong[:, done.slot[0]] = done.wrong
        if alone:
            self.best_x = found
        elif self.estimator.per_example:
            self._keep_better(found)
        else:
            self.best_x = better_of(self.estimator, self.y, self.best_x, found) if self._found_any else found
        self._found_any = True
        if self.early_stop:
            self.left = left[~wrong[0, left]]

    def _keep_better(self, found: Tensor) -> None:
        left = self.left
        score = self.estimator.value(found[:, left], self.y[:, left], margin_loss).loss
        better = score > self._best[:, left]
        self._best[:, left] = torch.maximum(score, self._best[:, left])
        self.best_x[:, left] = torch.where(wide(better), found[:, left], self.best_x[:, left])

    def _run(
        self, x0: Tensor, y: Tensor, goal: Tensor, start: Tensor, slots: Tensor, loss: Loss
    ) -> Iterator[Examples]:
        """Yields examples as they finish, with ``x`` the result: early those that stop, the others last."""
        e = self._begin(x0, y, goal, start, slots, loss)
        ball = self.budget.around(x0)
        shortest = max(int(SHORTEST_INTERVAL * self.steps), 1 if self.estimator.per_example else FEWEST_NOISY)
        interval, since_check = max(int(FIRST_INTERVAL * self.steps), shortest), 0
        for step in range(self.steps):
            if self.estimator.exhausted:
                break
            if self.early_stop and bool(e.wrong.any()):
                yield e.select(e.wrong[0].nonzero().squeeze(1))
                e = e.select((~e.wrong[0]).nonzero().squeeze(1))
                if not e.slot.numel():
                    return
                ball = self.budget.around(e.x0)
            if since_check == interval:
                _halve(e, _stalled(e, interval) if self.estimator.per_example else self._no_better(e, loss))
                shorter = interval - max(int(SHORTER_BY * self.steps), 1)
                interval, since_check = max(shorter, shortest), 0
                if self.estimator.exhausted:
                    break
            weight = MOMENTUM if step else 1.0
            moved = ball.step_(e.x.clone(), e.grad, e.size)
            x = ball.project_(e.x + weight * (moved - e.x) + (1 - weight) * (e.x - e.last_x))
            last = step == self.steps - 1
            found = (self.estimator.value if last else self.estimator.gradient)(x, e.goal, loss)
            e.rises += found.loss > e.loss
            e.last_x, e.x, e.loss = e.x, x, found.loss
            e.grad = e.grad if found.grad is None else found.grad
            e.wrong = found.logits.argmax(-1) != e.y
            if self.estimator.per_example:
                keep(e, e.loss > e.best_loss)
            since_check += 1
        yield self._finished(e, stop=self.early_stop)

    def _finished(self, e: Examples, *, stop: bool) -> Examples:
        """The examples with ``x`` the result of their run."""
        if stop:
            e.x = torch.where(wide(e.wrong), e.x, e.best_x)
        elif self.estimator.per_example:
            e.x = e.best_x
        else:
            e.x = better_of(self.estimator, e.y, e.x, e.best_x)
        return e

    def _no_better(self, e: Examples, loss: Loss) -> Tensor:
        """``[G, K]``, where the current point (or batch) is no better than the one kept before.

        A loss that is partly luck says little about one step, and its largest value is the luckiest. So
        points are compared at checkpoints alone, under fresh draws that are the same for both.
        """
        if self.estimator.exhausted:  # nothing is left to compare with: the last point has seen most draws
            better = torch.ones_like(e.wrong)
        else:
            before, now = self.estimator.compare([e.best_x, e.x], e.goal, loss)
            better = larger(self.estimator, now.loss, before.loss)
        keep(e, better)
        return ~better

    def _begin(
        self, x0: Tensor, y: Tensor, goal: Tensor, start: Tensor, slots: Tensor, loss: Loss
    ) -> Examples:
        found = self.estimator.gradient(start, goal, loss)
        assert found.grad is not None
        return Examples(
            slot=slots.expand(y.shape),
            x0=x0,
            y=y,
            goal=goal,
            x=start,
            last_x=start,
            grad=found.grad,
            loss=found.loss,
            wrong=found.logits.argmax(-1) != y,
            size=torch.full_like(found.loss, 2 * self.budget.eps),
            rises=torch.zeros_like(found.loss),
            halved=torch.ones_like(y, dtype=torch.bool),
            best_x=start,
            best_grad=found.grad,
            best_loss=found.loss,
            checked_loss=found.loss,
        )


def _stalled(e: Examples, interval: int) -> Tensor:
    """``[G, K]``, condition 1 or 2 of the paper: too few steps raised the loss, or none the best one."""
    stuck = ~e.halved & (e.best_loss <= e.checked_loss)
    return (e.rises <= RHO * interval) | stuck


def keep(e: Examples, better: Tensor) -> None:
    """Makes the current point the best one where it is better."""
    e.best_x = torch.where(wide(better), e.x, e.best_x)
    e.best_grad = torch.where(wide(better), e.grad, e.best_grad)
    e.best_loss = torch.where(better, e.loss, e.best_loss)


def _halve(e: Examples, halved: Tensor) -> None:
    """Halves the step size of these examples and returns them to their best points."""
    e.halved = halved
    e.size = torch.where(halved, e.size / 2, e.size)
    e.x = torch.where(wide(halved), e.best_x, e.x)
    e.grad = torch.where(wide(halved), e.best_grad, e.grad)
    e.checked_loss, e.rises = e.best_loss, torch.zeros_like(e.rises)
