"""Auto-PGD (arXiv 2003.01690, algorithm 1): momentum, and a step size that is halved per example."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from attacks.estimators import Estimator
from attacks.losses import Loss, cross_entropy, margin_loss, targeted_dlr
from attacks.perturbation_budget import PerturbationBudget

# The paper's constants: the weight of the newest step; a step size is kept while more than a share RHO of
# its steps raised the loss; the checkpoints, as shares of all steps.
MOMENTUM = 0.75
RHO = 0.75
FIRST_INTERVAL, SHORTER_BY, SHORTEST_INTERVAL = 0.22, 0.03, 0.06


@dataclass(frozen=True)
class Apgd:
    """Maximises one loss from the given start or a random one; further restarts begin at random.

    The result is each example's point of the largest (draw-averaged) loss. Under an estimator that is not
    per-example, that point may owe its loss to a lucky draw, and the points of a coupled batch were never
    answered together. It is then compared once more with the last iterate, under the same fresh draws, and
    the better of the two batches is taken. Averaging over many draws (eot20) is advised all the same.

    Attributes:
        steps: steps of every restart. A restart asks for ``steps`` gradients and one value.
        loss: what is maximised.
        restarts: number of runs.
        early_stop: stop on an example after its first wrong answer. Only for targets that answer inputs one
            by one and without randomness.
    """

    steps: int
    loss: Loss = cross_entropy
    restarts: int = 1
    early_stop: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(f"expected steps and restarts >= 1, got {self.steps} and {self.restarts}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; ``start`` is the first run's."""
        ball = budget.around(x)
        runs = (
            (ball.uniform(generators) if run or start is None else ball.project_(start.clone()), y)
            for run in range(self.restarts)
        )
        search = _Search(estimator, budget, self.steps, self.loss, self.early_stop)
        return search.best_of(runs, self.restarts, x, y)


@dataclass(frozen=True)
class ApgdTargeted:
    """One run of ``Apgd`` on the targeted DLR loss for each of the likeliest wrong classes.

    Attributes:
        steps: steps of every run.
        targets: number of target classes, at most all wrong ones; the largest (draw-averaged) logits of clean
            x come first.
        early_stop: as in ``Apgd``.
    """

    steps: int
    targets: int = 9
    early_stop: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.targets < 1:
            raise ValueError(f"expected steps and targets >= 1, got {self.steps} and {self.targets}")

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; every target's run begins at ``start`` where there is one."""
        ball = budget.around(x)
        logits = estimator.value(x, y, margin_loss).logits
        wrong = logits.scatter(-1, y.unsqueeze(-1), -torch.inf)
        ranked = wrong.topk(min(self.targets, logits.shape[-1] - 1), dim=-1).indices
        runs = (
            (
                ball.uniform(generators) if start is None else ball.project_(start.clone()),
                torch.stack([y, target], -1),
            )
            for target in ranked.unbind(-1)
        )
        search = _Search(estimator, budget, self.steps, targeted_dlr, self.early_stop)
        return search.best_of(runs, ranked.shape[-1], x, y)


@dataclass
class _Examples:
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

    def select(self, chosen: Tensor) -> "_Examples":
        return _Examples(*(getattr(self, field.name)[:, chosen] for field in fields(self)))


@dataclass(frozen=True)
class _Search:
    estimator: Estimator
    budget: PerturbationBudget
    steps: int
    loss: Loss
    early_stop: bool

    def best_of(self, runs: Iterable[tuple[Tensor, Tensor]], count: int, x: Tensor, y: Tensor) -> Tensor:
        """The best result of ``count`` runs, each from its own start and towards its own goal."""
        if self.early_stop:
            if self.budget.eps_scale is not None:
                raise ValueError("expected one eps for all slots to stop early, got eps_scale")
            # The examples are independent, so those that are left can form one batch.
            runs = ((start.flatten(0, 1)[None], goal.flatten(0, 1)[None]) for start, goal in runs)
            flat = x.flatten(0, 1)[None], y.flatten()[None]
            return self._best_of(runs, count, *flat).view_as(x)
        return self._best_of(runs, count, x, y)

    def _best_of(self, runs: Iterable[tuple[Tensor, Tensor]], count: int, x: Tensor, y: Tensor) -> Tensor:
        best_x = x.clone()
        best = torch.full(y.shape, -torch.inf, dtype=x.dtype, device=x.device)
        left = torch.arange(y.shape[1], device=y.device)
        for start, goal in runs:
            if self.estimator.exhausted:
                break
            found = x.clone()
            wrong = torch.zeros_like(y, dtype=torch.bool)
            for done in self._run(x[:, left], y[:, left], goal[:, left], start[:, left], left):
                found[:, done.slot[0]] = done.x
                wrong[:, done.slot[0]] = done.wrong
            if count == 1:
                return found
            # Runs may have maximised different losses, and a randomised target's largest loss is partly luck:
            # one more value makes them comparable.
            score = self.estimator.value(found[:, left], y[:, left], margin_loss).loss
            better = score > best[:, left]
            best[:, left] = torch.maximum(score, best[:, left])
            best_x[:, left] = torch.where(_wide(better), found[:, left], best_x[:, left])
            if self.early_stop:
                left = left[~wrong[0, left]]
                if not len(left):
                    break
        return best_x

    def _run(self, x0: Tensor, y: Tensor, goal: Tensor, start: Tensor, slots: Tensor) -> Iterator[_Examples]:
        """Yields examples as they finish, with ``x`` the result: early those that stop, the others last."""
        e = self._begin(x0, y, goal, start, slots)
        ball = self.budget.around(x0)
        interval, since_check = max(int(FIRST_INTERVAL * self.steps), 1), 0
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
                _check(e, interval)
                shorter = interval - max(int(SHORTER_BY * self.steps), 1)
                interval, since_check = max(shorter, int(SHORTEST_INTERVAL * self.steps), 1), 0
            weight = MOMENTUM if step else 1.0
            moved = ball.step_(e.x.clone(), e.grad, e.size)
            x = ball.project_(e.x + weight * (moved - e.x) + (1 - weight) * (e.x - e.last_x))
            last = step == self.steps - 1
            found = (self.estimator.value if last else self.estimator.gradient)(x, e.goal, self.loss)
            e.rises += found.loss > e.loss
            e.last_x, e.x, e.loss = e.x, x, found.loss
            e.grad = e.grad if found.grad is None else found.grad
            e.wrong = found.logits.argmax(-1) != e.y
            better = e.loss > e.best_loss
            e.best_x = torch.where(_wide(better), e.x, e.best_x)
            e.best_grad = torch.where(_wide(better), e.grad, e.best_grad)
            e.best_loss = torch.where(better, e.loss, e.best_loss)
            since_check += 1
        if self.early_stop:
            e.x = torch.where(_wide(e.wrong), e.x, e.best_x)
        elif self.estimator.per_example or self.estimator.exhausted:
            e.x = e.best_x
        else:
            best, latest = self.estimator.compare([e.best_x, e.x], e.goal, self.loss)
            lucky = latest.loss.mean(1, keepdim=True) > best.loss.mean(1, keepdim=True)
            e.x = torch.where(_wide(lucky), e.x, e.best_x)
        yield e

    def _begin(self, x0: Tensor, y: Tensor, goal: Tensor, start: Tensor, slots: Tensor) -> _Examples:
        found = self.estimator.gradient(start, goal, self.loss)
        assert found.grad is not None
        return _Examples(
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


def _check(e: _Examples, interval: int) -> None:
    """Halves the step size of an example that oscillates or is stuck, and returns it to its best point."""
    stuck = ~e.halved & (e.best_loss <= e.checked_loss)
    e.halved = (e.rises <= RHO * interval) | stuck
    e.size = torch.where(e.halved, e.size / 2, e.size)
    e.x = torch.where(_wide(e.halved), e.best_x, e.x)
    e.grad = torch.where(_wide(e.halved), e.best_grad, e.grad)
    e.checked_loss, e.rises = e.best_loss, torch.zeros_like(e.rises)


def _wide(per_example: Tensor) -> Tensor:
    return per_example[:, :, None, None, None]
