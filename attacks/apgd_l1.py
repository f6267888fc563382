"""Auto-PGD in l1 (arXiv 2103.01208, section 3): steps that move few values, fewer and fewer of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attacks.apgd_search import Examples, Search, keep
from attacks.l1_ball import L1Ball
from attacks.losses import Loss
from attacks.wide import wide

# The paper's constants. Stages, as factors on eps and shares of the steps; the share of values that a first
# step moves; steps between checkpoints, as a share of all; by how much the moved values of the best point
# must be fewer than at the last checkpoint for the full step size; divisors of both; the shortest step.
STAGES = ((3, 0.3), (2, 0.3), (1, 0.4))
FIRST_SHARE = 0.2
INTERVAL = 0.04
STILL_FALLING = 0.95
SHARE_BY, STEP_BY, SHORTEST = 1.5, 1.5, 0.1
# With fewer steps there is one stage.
FEWEST_STAGED = 10
FEWEST_NOISY = 5


@dataclass
class _Sparse(Examples):
    share: Tensor  # of the values that the next step moves
    moved: Tensor  # values that the best point moved, at the last checkpoint


def search_for(*args: Any, early_stop: bool) -> Search:
    """The search for a budget, given ``Search``'s arguments: steps in l1 are others."""
    budget = args[1]
    return (SparseSearch if budget.norm == "l1" else Search)(*args, early_stop=early_stop)


class SparseSearch(Search):
    """Runs in three balls, each as far out as its factor says, from the best point of the one before."""

    def _run(
        self, x0: Tensor, y: Tensor, goal: Tensor, start: Tensor, slots: Tensor, loss: Loss
    ) -> Iterator[Examples]:
        stages = STAGES if self.steps >= FEWEST_STAGED else STAGES[-1:]
        spent = 0
        for factor, share in stages[:-1]:
            if self.estimator.exhausted:
                break
            steps = int(share * self.steps)
            wider = replace(self.budget, eps=factor * self.budget.eps)
            ball = wider.around(x0)
            start = ball.project_(start.clone())
            (e,) = self._stage(x0, y, goal, start, slots, loss, ball, wider.eps, steps, stop=False)
            start, spent = e.x, spent + steps
        ball, rest = self.budget.around(x0), self.steps - spent
        start = ball.project_(start.clone())
        yield from self._stage(
            x0, y, goal, start, slots, loss, ball, self.budget.eps, rest, stop=self.early_stop
        )

    def _stage(
        self,
        x0: Tensor,
        y: Tensor,
        goal: Tensor,
        start: Tensor,
        slots: Tensor,
        loss: Loss,
        ball: Any,
        length: float,
        steps: int,
        *,
        stop: bool,
    ) -> Iterator[Examples]:
        """One run in one ball, with steps of at most ``length``.

        ``stop``: yields examples as soon as they are answered wrongly.
        """
        assert isinstance(ball, L1Ball)
        full = torch.full_like(start[..., 0, 0, 0], length)
        e = self._sparse(self._begin(x0, y, goal, start, slots, loss), full)
        interval = max(int(INTERVAL * steps), 1 if self.estimator.per_example else FEWEST_NOISY)
        for step in range(steps):
            if self.estimator.exhausted:
                break
            if stop and bool(e.wrong.any()):
                yield e.select(e.wrong[0].nonzero().squeeze(1))
                rest = (~e.wrong[0]).nonzero().squeeze(1)
                e, full = e.select(rest), full[:, rest]
                if not e.slot.numel():
                    return
                ball = self.budget.around(e.x0)
                assert isinstance(ball, L1Ball)
            if step and step % interval == 0:
                if not self.estimator.per_example:
                    self._no_better(e, loss)
                    if self.estimator.exhausted:
                        break
                _sparser(e, full)
            e.x = ball.sparse_step_(e.x, e.grad, e.size, e.share)
            last = step == steps - 1
            found = (self.estimator.value if last else self.estimator.gradient)(e.x, e.goal, loss)
            e.loss = found.loss
            e.grad = e.grad if found.grad is None else found.grad
            e.wrong = found.logits.argmax(-1) != e.y
            if self.estimator.per_example:
                keep(e, e.loss > e.best_loss)
        yield self._finished(e, stop=stop)

    def _sparse(self, e: Examples, full: Tensor) -> _Sparse:
        moved = _moved(e.x, e.x0)
        values = e.x[0, 0].numel() if e.x.numel() else 1
        share = torch.where(moved > 0, moved / values / SHARE_BY, FIRST_SHARE)
        fields = vars(e) | {"size": full.clone()}
        return _Sparse(**fields, share=share, moved=torch.where(moved > 0, moved, values))


def _sparser(e: _Sparse, full: Tensor) -> None:
    """At a checkpoint: what the best point moved tells how many values are worth moving.

    While their number falls, steps are long, and go on from the best point; else they become shorter.
    """
    moved = _moved(e.best_x, e.x0)
    falling = moved < STILL_FALLING * e.moved
    e.share, e.moved = moved / e.x[0, 0].numel() / SHARE_BY, moved
    e.size = torch.where(falling, full, (e.size / STEP_BY).maximum(SHORTEST * full))
    e.x = torch.where(wide(falling), e.best_x, e.x)
    e.grad = torch.where(wide(falling), e.best_grad, e.grad)


def _moved(x: Tensor, x0: Tensor) -> Tensor:
    return (x != x0).flatten(2).sum(-1).to(x.dtype)
