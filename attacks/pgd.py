"""FGSM (arXiv 1412.6572), one step of size eps; PGD (arXiv 1706.06083), ascent from a random start; and
attacks of several ascents: in parts of the ball, restarts, sequences, pixels of several results.

PGD's result is the last iterate. With momentum (arXiv 1710.06081) a step follows the gradients of all steps
so far, each divided by its mean absolute value. Against a randomised target this averages over the draws of
all steps, at one draw per step.

``aa`` asks its attacks in turn, each on what those before it left, as AutoAttack does (arXiv 2003.01690),
then more of them on the few examples of the smallest margins: what an attack misses on robust networks is
nearly always among those.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Literal

import torch
from torch import Tensor

from attacks.algorithm import Algorithm, Cost
from attacks.apgd import Apgd, ApgdMultiTargeted
from attacks.attack import Attack
from attacks.losses import Loss, cross_entropy, margin_loss
from attacks.score_based import Square, each_batch, search
from attacks.solver import Problem, Solver, better_of, larger, wide


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


@Algorithm(
    "PGD",
    "PGD",
    example=10,
    paper="1706.06083",
    takes=("steps", "step_size", "start", "loss", "momentum", "restarts"),
    loss="ce",
    step_size=default_step_size,
    plain=True,
)
def restarted_pgd(
    steps: int,
    step_size: float | None = None,
    loss: Loss = cross_entropy,
    momentum: float = 0.0,
    restarts: int = 1,
    early_stop: bool = False,
    start: Literal["clean"] | None = None,
) -> Solver:
    """Ascent from one random start, or the best of several, later ones on what is left; the last iterate."""
    begins_clean = start == "clean"
    pgd = Pgd(steps, step_size, loss, momentum=momentum, begins_clean=begins_clean, early_stop=early_stop)
    return AttackSequence((pgd,) * restarts, early_stop=early_stop) if restarts > 1 else pgd


SHARE = 16  # of a batch: one in so many of its examples is attacked again
ALL_TARGETS = 8  # of the later runs; with the likeliest wrong class, which the margin leads to, 9

# Of `aa`, for each of its steps. On robust networks it needs a quarter of the images of AutoAttack's standard
# suite: it has no FAB, three targets after the margin instead of nine from random starts, and a seventh of
# Square's queries. What that misses has small margins (benchmarks/peers/robust_bench.md).
TARGETS = 3
QUERIES = 7.5
MORE_RUNS = 2
MORE_QUERIES = 5
COMPARISONS = 8  # under draws of their own, between results of its attacks on random targets


@dataclass(frozen=True)
class AttackSequence(Solver):
    """Runs each attack on the examples that those before it left.

    Attributes:
        attacks: the first runs on all examples.
        closest: each runs on those left whose margins are smallest, ``1 / SHARE`` of a batch at most.
        early_stop: attacks stop on an example after its first wrong answer. Only for targets that answer
            inputs one by one and without randomness: elsewhere a margin depends on a draw or on other inputs.
            Without it, every one of ``attacks`` runs on all examples, ``closest`` do not run, and what is
            better under the same draws is kept.
        comparisons: how many times two results are compared there.
    """

    attacks: Sequence[Solver]
    closest: Sequence[Solver] = ()
    early_stop: bool = field(default=True, kw_only=True)
    comparisons: int = 1

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; ``start`` is the first attack's. Later ones choose their own.

        Raises:
            ValueError: the budget differs between slots, and attacks stop early.
        """
        x, y, estimator, budget, generators, start = problem
        first, *others = self.attacks
        best = first.perturb(x, y, estimator, budget, generators, start)
        if not self.early_stop:
            for attack in others:
                perturbed = attack.perturb(x, y, estimator, budget, generators)
                best = better_of(estimator, y, best, perturbed, self.comparisons)
            return best
        budget.check_one_eps()
        few = ceil(x.shape[1] / SHARE)
        turns = [(attack, None) for attack in others] + [(attack, few) for attack in self.closest]
        if not turns:
            return best
        best, reached = best.clone(), estimator.value(best, y, margin_loss).loss
        for attack, most in turns:
            for positions, rows in live_rows(reached, most):
                at = positions[:, None], rows
                mine = [generators[position] for position in positions.tolist()]
                perturbed = attack.perturb(x[at], y[at], estimator, budget, mine)
                loss = estimator.value(perturbed, y[at], margin_loss).loss
                best[at] = torch.where(wide(loss > reached[at]), perturbed, best[at])
                reached[at] = torch.maximum(loss, reached[at])
        return best


def live_rows(reached: Tensor, most: int | None) -> list[tuple[Tensor, Tensor]]:
    """The examples that are left, at most so many of a batch, those of the largest loss.

    What is attacked in one batch does not depend on the others of its group: batches in which as many are
    left are attacked at once.

    Args:
        reached: margin loss [G, K]; above 0 an answer is wrong.

    Returns:
        batches [g] and rows of each [g, m].
    """
    by_number: dict[int, list[tuple[int, Tensor]]] = {}
    for position, loss in enumerate(reached):
        rows = (~(loss > 0)).nonzero()[:, 0]
        if most is not None and len(rows) > most:
            rows = rows[loss[rows].topk(most).indices]
        if len(rows):
            by_number.setdefault(len(rows), []).append((position, rows))
    return [
        (
            torch.tensor([position for position, _ in batches], device=reached.device),
            torch.stack([rows for _, rows in batches]),
        )
        for batches in by_number.values()
    ]


def queries(attack: Attack, randomised: bool) -> Cost:
    """Approximate cost (``Algorithm.cost``)."""
    steps, share = attack.steps or 1, 0 if randomised else 1 / SHARE
    # Rounded up: twice the steps cost no more than twice as much.
    backwards = ceil(steps * (2 + TARGETS + share * MORE_RUNS * (1 + ALL_TARGETS)))
    return Cost(backwards + ceil(steps * QUERIES * (1 + share * MORE_QUERIES)), backwards)


@Algorithm(
    "AA",
    "Auto-PGD, multi-targeted Auto-PGD and Square, each on what is left",
    kind="auto-pgd",
    cost=queries,
    costs="about 6 gradients and 10 queries a step",
)
def aa(steps: int, early_stop: bool) -> Solver:
    """Auto-PGD on cross-entropy, multi-targeted Auto-PGD, Square; then more of the last two.

    On random or coupled targets PGD with momentum instead of more: Auto-PGD keeps what a draw favoured, and
    momentum averages over the draws of all its steps.
    """
    queries = ceil(QUERIES * steps)
    attacks = (
        Apgd(steps, cross_entropy, early_stop=early_stop),
        ApgdMultiTargeted(steps, TARGETS, early_stop=early_stop),
        Square(queries, early_stop=early_stop),
    )
    if not early_stop:
        averaging = Pgd(steps, loss=margin_loss, momentum=1.0)
        return AttackSequence((*attacks, averaging), early_stop=False, comparisons=COMPARISONS)
    further = (_more_targets(steps, TARGETS),) * MORE_RUNS
    return AttackSequence(attacks, (*further, Square(MORE_QUERIES * queries, early_stop=True)))


def _more_targets(steps: int, targets: int) -> Solver:
    return ApgdMultiTargeted(steps, max(targets, ALL_TARGETS), early_stop=True)


# Where a loss has many local optima within the ball, each start of PGD ends in another one. The best of
# several is little better than one of them. Pixels of one result put into another often are: on sine
# encodings before a linear layer four starts leave 16%, as the best of sixteen do, in a ninth of the time
# (exact 3%).
STEPS = 25  # of PGD, from each start
MIXTURES = 25  # of a new result and the best one; each is compared with the best one
MOST, FEWEST = 0.5, 1 / 64  # shares of the pixels that a mixture takes from the new result


def _of_mosaic(attack: Attack, randomised: bool) -> Cost:
    """Largest cost (``Algorithm.cost``)."""
    starts = attack.steps or 1
    return Cost(starts * STEPS + (starts - 1) * (2 * MIXTURES + 2), starts * STEPS)


@Algorithm(
    "Mosaic",
    "PGD from several starts, whose pixels are mixed",
    example=8,
    cost=_of_mosaic,
    costs="25 gradients and 52 queries a start",
    fewest_steps=2,
    counts_starts=True,
)
@dataclass(frozen=True)
class Mosaic(Solver):
    """Each example takes the best pixels of the results from all starts.

    Examples keep what is better for them under the same draws, whether or not answers are random or depend on
    the batch. Where they do depend on it, pieces that were good for each example may harm the others, so a
    batch is only replaced by one whose mean loss is larger.

    Attributes:
        steps: starts of PGD on the margin, with momentum.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; ``start`` is where the first run begins."""
        x, y, estimator, budget, generators, start = problem
        pgd = Pgd(STEPS, loss=margin_loss, momentum=1.0, early_stop=self.early_stop)
        best = pgd.perturb(x, y, estimator, budget, generators, start)
        for _ in range(self.steps - 1):
            for positions, rows in self._live(problem, best):
                at = positions[:, None], rows
                mine = [generators[position] for position in positions.tolist()]
                part = problem._replace(x=x[at], y=y[at], generators=mine, start=None)
                end = pgd.perturb(part.x, part.y, estimator, budget, mine)
                best = best.index_put(at, self._mixed(part, best[at], end))
        return best

    def _live(self, problem: Problem, best: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches and rows to go on with: all of them, or with ``early_stop`` those answered rightly."""
        if not self.early_stop:
            g, k = problem.y.shape
            device = best.device
            yield torch.arange(g, device=device), torch.arange(k, device=device).expand(g, k)
        else:
            yield from live_rows(problem.estimator.value(best, problem.y, margin_loss).loss, None)

    def _mixed(self, problem: Problem, best: Tensor, end: Tensor) -> Tensor:
        """The best of both and of mixtures of them, like ``best`` ``[G, K, C, H, W]``."""
        x, y, estimator, budget, generators, _ = problem
        ball = budget.around(x)

        def mixture(query: int, current: Tensor) -> Tensor:
            if query == 1:
                return end
            k = x.shape[1]
            even = each_batch(generators, lambda generator: torch.rand(k, generator=generator))
            share = MOST * (FEWEST / MOST) ** even
            shape = (k, 1, *x.shape[3:])
            drawn = each_batch(generators, lambda generator: torch.rand(shape, generator=generator))
            taken = (drawn < wide(share)).to(x.device)
            return ball.project_(torch.where(taken, end, current))

        mixed = search(best, mixture, 2 * MIXTURES + 1, y, estimator, early_stop=self.early_stop)
        return better_of(estimator, y, best, mixed) if estimator.coupled else mixed
