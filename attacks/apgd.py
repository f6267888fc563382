"""Auto-PGD (arXiv 2003.01690): on one loss, on targeted losses, and multi-targeted (arXiv 1910.09338).

Momentum, and a step size that is halved per example. In linf and l2 by algorithm 1 of the paper; in l1 by
steps that move few values, fewer and fewer of them (arXiv 2103.01208, section 3).
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from attacks.algorithm import Algorithm, Cost
from attacks.attack import Attack
from attacks.balls import Ball, L1Ball
from attacks.losses import Loss, cross_entropy, margin_loss, pair_loss, targeted_dlr
from attacks.perturbation_budget import PerturbationBudget
from attacks.solver import Problem, Solver, better_of, larger, wide

TARGETS, MT_TARGETS = 9, 3  # of a targeted attack whose name does not say, on as many classes or more


def _runs(attack: Attack, runs: int) -> Cost:
    steps = (attack.steps or 1) * runs
    return Cost(steps, steps)


@Algorithm(
    "APGD-CE",
    "Auto-PGD on cross-entropy",
    paper="2003.01690",
    takes=("steps", "restarts"),
    loss="ce",
    kind="auto-pgd",
)
@Algorithm(
    "APGD-DLR",
    "Auto-PGD on the difference of logits ratio",
    paper="2003.01690",
    takes=("steps", "restarts"),
    loss="dlr",
    kind="auto-pgd",
)
@dataclass(frozen=True)
class Apgd(Solver):
    """Momentum, and a step size that is halved per example; further restarts begin at random.

    It maximises one loss, from the given start or a random one.

    The result is each example's point of the largest (draw-averaged) loss. Under an estimator that is not
    per-example, the largest loss is partly luck. Points are then compared at checkpoints alone, under the
    same fresh draws, and the result with the last iterate; averaging over draws (eot4) helps all the same.

    Attributes:
        steps: steps of every restart. A restart asks for ``steps`` gradients and one value.
        loss: what is maximised.
        restarts: number of runs.
    """

    steps: int
    loss: Loss = cross_entropy
    restarts: int = 1

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; ``start`` is the first run's."""
        search = search_for(problem, self.steps, early_stop=self.early_stop)
        for run in range(self.restarts):
            search.run(search.begun(anew=run > 0), search.y, self.loss, alone=self.restarts == 1)
        return search.result()


@Algorithm(
    "APGD-T",
    "targeted Auto-PGD",
    paper="2003.01690",
    takes=("steps", "targets"),
    loss="dlr",
    kind="auto-pgd",
    cost=lambda attack, randomised: _runs(attack, attack.targets or TARGETS),
    costs="9 gradients a step",
)
@dataclass(frozen=True)
class ApgdTargeted(Solver):
    """One run of Auto-PGD on the targeted DLR loss for each of the likeliest wrong classes.

    Attributes:
        steps: steps of every run.
        targets: number of target classes, at most all wrong ones; the largest (draw-averaged) logits of clean
            x come first.
    """

    steps: int
    targets: int = TARGETS

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; every target's run begins at ``start`` where there is one."""
        search = search_for(problem, self.steps, early_stop=self.early_stop)
        logits = problem.estimator.value(search.x0, search.y, margin_loss).logits
        for target in likeliest_wrong(logits, search.y, self.targets):
            search.run(search.begun(), torch.stack([search.y, target], -1), targeted_dlr)
        return search.result()


def likeliest_wrong(logits: Tensor, y: Tensor, count: int) -> Iterator[Tensor]:
    """The wrong classes with the largest logits, ``[G, K]`` each: at most ``count``, the likeliest first."""
    wrong = logits.scatter(-1, y.unsqueeze(-1), -torch.inf)
    yield from wrong.topk(min(count, logits.shape[-1] - 1), dim=-1).indices.unbind(-1)


@Algorithm(
    "APGD-MT",
    "Auto-PGD on the margin, then multi-targeted",
    example=20,
    paper="1910.09338",
    takes=("steps", "targets"),
    kind="auto-pgd",
    cost=lambda attack, randomised: _runs(attack, 1 + (attack.targets or MT_TARGETS)),
    costs="4 gradients a step",
)
@dataclass(frozen=True)
class ApgdMultiTargeted(Solver):
    """Each run continues from the best point so far, towards the next classes there.

    The margin alone breaks most of what can be broken. It ends at a boundary to the likeliest wrong class at
    that point, so the targeted runs aim at the next ones there: classes that the margin had no reason to try.
    Where the losses of a batch are raised together, or averaged over draws, the margin spends as much on
    examples that are far from any boundary as on the others: there, cross-entropy takes its place, and the
    cross-entropy of two classes that of the targeted ratio.

    Attributes:
        steps: moves of every run.
        targets: classes aimed at after the margin, at most all but two.
    """

    steps: int
    targets: int = MT_TARGETS

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; the run on the margin begins at ``start`` where there is one."""
        estimator, search = problem.estimator, search_for(problem, self.steps, early_stop=self.early_stop)
        loss, towards = (margin_loss, targeted_dlr) if estimator.per_example else (cross_entropy, pair_loss)
        search.run(search.begun(), search.y, loss)
        if search.over:
            return search.result()
        live = search.live
        estimate = estimator.value(search.best_x[:, live], search.y[:, live], margin_loss).logits
        logits = estimate.new_zeros(*search.y.shape, estimate.shape[-1])
        logits[:, live] = estimate
        for rank, target in enumerate(likeliest_wrong(logits, search.y, self.targets + 1)):
            if rank:
                search.run(search.best_x, torch.stack([search.y, target], -1), towards)
        return search.result()


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

    Runs may raise different losses, so their results are compared by their margins (``attacks.solver``).

    Args:
        steps: moves of every run.
        early_stop: later runs leave out examples that are answered wrongly. All examples then form one batch.

    Attributes:
        x0, y: the clean inputs and labels as the search holds them, ``[1, G K, ...]`` where it stops early.
        best_x: the best points so far, clean inputs before the first run.
        live: the slots still attacked; those of all batches.
    """

    def __init__(self, problem: Problem, steps: int, *, early_stop: bool):
        self.problem, self.steps, self.early_stop = problem, steps, early_stop
        self.estimator, self.budget = problem.estimator, problem.budget
        if early_stop:
            self.budget.check_one_eps()
        self._ball = self.budget.around(problem.x)
        self.x0, self.y = self._held(problem.x), self._held(problem.y)
        self.best_x, self._has_run = self.x0.clone(), False
        self._best = self.x0.new_full(self.y.shape, -torch.inf)
        self.live = torch.arange(self.y.shape[1], device=self.y.device)

    @property
    def over(self) -> bool:
        """True if there is nothing left to attack."""
        return not len(self.live)

    def begun(self, *, anew: bool = False) -> Tensor:
        """Where a run begins, as the search holds it: at the problem's start, or at random, as ``anew``."""
        if anew or (start := self.problem.start) is None:
            return self._held(self._ball.uniform(self.problem.generators))
        return self._held(self._ball.project_(start.clone()))

    def result(self) -> Tensor:
        """The best points, ``[G, K, C, H, W]``."""
        return self.best_x.view_as(self.problem.x)

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
        live = self.live
        ends, wrong = self.x0.clone(), torch.zeros_like(self.y, dtype=torch.bool)
        for done in self._run(start[:, live], goal[:, live], loss):
            ends[:, done.slot[0]] = done.x
            wrong[:, done.slot[0]] = done.wrong
        if alone:
            self.best_x = ends
        elif self.estimator.per_example:
            self._keep_better(ends)
        else:
            self.best_x = better_of(self.estimator, self.y, self.best_x, ends) if self._has_run else ends
        self._has_run = True
        if self.early_stop:
            self.live = live[~wrong[0, live]]

    def _keep_better(self, ends: Tensor) -> None:
        live = self.live
        score = self.estimator.value(ends[:, live], self.y[:, live], margin_loss).loss
        better = score > self._best[:, live]
        self._best[:, live] = torch.maximum(score, self._best[:, live])
        self.best_x[:, live] = torch.where(wide(better), ends[:, live], self.best_x[:, live])

    def _run(self, start: Tensor, goal: Tensor, loss: Loss) -> Iterator[Examples]:
        """Yields examples as they finish, with ``x`` the result: early those that stop, the others last."""
        e = self._begin(start, goal, loss)
        yield from self._climb(e, loss, self.budget, self.steps, stop=self.early_stop)

    def _climb(
        self, e: Examples, loss: Loss, budget: PerturbationBudget, steps: int, *, stop: bool
    ) -> Iterator[Examples]:
        """So many steps in one ball. ``stop``: yields examples as soon as they are answered wrongly."""
        ball, looks = budget.around(e.x0), self._checkpoints(steps)
        for step in range(steps):
            if stop and bool(e.wrong.any()):
                yield e.select(e.wrong[0].nonzero().squeeze(1))
                e = e.select((~e.wrong[0]).nonzero().squeeze(1))
                if not e.slot.numel():
                    return
                ball = budget.around(e.x0)
            if step in looks:
                self._look_back(e, loss, looks[step])
            x, before = self._next(e, ball, step), e.loss
            e.last_x = e.x
            self._move(e, x, loss, last=step == steps - 1)
            e.rises += e.loss > before
        yield self._finished(e, stop=stop)

    def _checkpoints(self, steps: int) -> dict[int, int]:
        """The steps before which the search looks back, and how many there were since the time before."""
        shortest = max(int(SHORTEST_INTERVAL * steps), 1 if self.estimator.per_example else FEWEST_NOISY)
        interval = at = max(int(FIRST_INTERVAL * steps), shortest)
        checkpoints = {}
        while at < steps:
            checkpoints[at] = interval
            interval = max(interval - max(int(SHORTER_BY * steps), 1), shortest)
            at += interval
        return checkpoints

    def _look_back(self, e: Examples, loss: Loss, interval: int) -> None:
        """Halves the step size of examples that stall, and returns them to their best points."""
        halved = _stalled(e, interval) if self.estimator.per_example else self._no_better(e, loss)
        e.halved = halved
        e.size = torch.where(halved, e.size / 2, e.size)
        e.x = torch.where(wide(halved), e.best_x, e.x)
        e.grad = torch.where(wide(halved), e.best_grad, e.grad)
        e.checked_loss, e.rises = e.best_loss, torch.zeros_like(e.rises)

    def _next(self, e: Examples, ball: Ball, step: int) -> Tensor:
        weight = MOMENTUM if step else 1.0
        moved = ball.step_(e.x.clone(), e.grad, e.size)
        return ball.project_(e.x + weight * (moved - e.x) + (1 - weight) * (e.x - e.last_x))

    def _move(self, e: Examples, x: Tensor, loss: Loss, *, last: bool) -> None:
        """Makes ``x`` the current point and asks about it; where no step follows, for the value alone."""
        estimate = (self.estimator.value if last else self.estimator.gradient)(x, e.goal, loss)
        e.x, e.loss, e.wrong = x, estimate.loss, estimate.logits.argmax(-1) != e.y
        e.grad = e.grad if estimate.grad is None else estimate.grad
        if self.estimator.per_example:
            keep(e, e.loss > e.best_loss)

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
        before, now = self.estimator.compare([e.best_x, e.x], e.goal, loss)
        better = larger(self.estimator, now.loss, before.loss)
        keep(e, better)
        return ~better

    def _begin(self, start: Tensor, goal: Tensor, loss: Loss) -> Examples:
        x0, y = self.x0[:, self.live], self.y[:, self.live]
        estimate = self.estimator.gradient(start, goal, loss)
        return Examples(
            slot=self.live.expand(y.shape),
            x0=x0,
            y=y,
            goal=goal,
            x=start,
            last_x=start,
            grad=estimate.grad,
            loss=estimate.loss,
            wrong=estimate.logits.argmax(-1) != y,
            size=torch.full_like(estimate.loss, 2 * self.budget.eps),
            rises=torch.zeros_like(estimate.loss),
            halved=torch.ones_like(y, dtype=torch.bool),
            best_x=start,
            best_grad=estimate.grad,
            best_loss=estimate.loss,
            checked_loss=estimate.loss,
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


@dataclass
class _Sparse(Examples):
    full: Tensor  # the longest step, in units of eps
    share: Tensor  # of the values that the next step moves
    moved: Tensor  # values that the best point moved, at the last checkpoint


def search_for(problem: Problem, steps: int, *, early_stop: bool) -> Search:
    """The search for a problem: steps in l1 are others."""
    kind = SparseSearch if problem.budget.norm == "l1" else Search
    return kind(problem, steps, early_stop=early_stop)


class SparseSearch(Search):
    """Runs in three balls, each as far out as its factor says, from the best point of the one before."""

    def _run(self, start: Tensor, goal: Tensor, loss: Loss) -> Iterator[Examples]:
        x0, remaining = self.x0[:, self.live], self.steps
        for factor, share in STAGES if self.steps >= FEWEST_STAGED else STAGES[-1:]:
            budget = replace(self.budget, eps=factor * self.budget.eps)
            steps, last = int(share * self.steps), factor == 1
            start = budget.around(x0).project_(start.clone())
            e = _sparse(self._begin(start, goal, loss), budget.eps)
            if last:
                yield from self._climb(e, loss, budget, remaining, stop=self.early_stop)
                return
            (done,) = self._climb(e, loss, budget, steps, stop=False)
            start, remaining = done.x, remaining - steps

    def _checkpoints(self, steps: int) -> dict[int, int]:
        interval = max(int(INTERVAL * steps), 1 if self.estimator.per_example else FEWEST_NOISY)
        return dict.fromkeys(range(interval, steps, interval), interval)

    def _look_back(self, e: Examples, loss: Loss, interval: int) -> None:
        """What the best point moved tells how many values are worth moving.

        While their number falls, steps are long, and go on from the best point; else they become shorter.
        """
        assert isinstance(e, _Sparse)
        if not self.estimator.per_example:
            self._no_better(e, loss)
        moved = _moved(e.best_x, e.x0)
        falling = moved < STILL_FALLING * e.moved
        e.share, e.moved = moved / e.x[0, 0].numel() / SHARE_BY, moved
        e.size = torch.where(falling, e.full, (e.size / STEP_BY).maximum(SHORTEST * e.full))
        e.x = torch.where(wide(falling), e.best_x, e.x)
        e.grad = torch.where(wide(falling), e.best_grad, e.grad)

    def _next(self, e: Examples, ball: Ball, step: int) -> Tensor:
        assert isinstance(e, _Sparse) and isinstance(ball, L1Ball)
        return ball.sparse_step_(e.x, e.grad, e.size, e.share)


def _sparse(e: Examples, length: float) -> _Sparse:
    moved = _moved(e.x, e.x0)
    values = e.x[0, 0].numel() if e.x.numel() else 1
    share = torch.where(moved > 0, moved / values / SHARE_BY, FIRST_SHARE)
    full = torch.full_like(e.size, length)
    fields = vars(e) | {"size": full}
    return _Sparse(**fields, full=full, share=share, moved=torch.where(moved > 0, moved, values))


def _moved(x: Tensor, x0: Tensor) -> Tensor:
    return (x != x0).flatten(2).sum(-1).to(x.dtype)
