"""Auto-PGD (arXiv 2003.01690): on one loss, on targeted losses, and multi-targeted (arXiv 1910.09338).

Momentum, and a step size that is halved per example; the search itself is in ``attacks.apgd_search``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.algorithm import Algorithm, Cost
from attacks.apgd_search import search_for
from attacks.attack import Attack
from attacks.losses import Loss, cross_entropy, margin_loss, pair_loss, targeted_dlr
from attacks.solver import Problem, Solver

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
        x, y, estimator, budget, generators, start = problem
        search = search_for(estimator, budget, x, y, self.steps, early_stop=self.early_stop)
        for run in range(self.restarts):
            begun = search.uniform(generators) if run or start is None else search.project(start)
            search.run(begun, search.y, self.loss, alone=self.restarts == 1)
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
        x, y, estimator, budget, generators, start = problem
        search = search_for(estimator, budget, x, y, self.steps, early_stop=self.early_stop)
        logits = estimator.value(search.x0, search.y, margin_loss).logits
        for target in likeliest_wrong(logits, search.y, self.targets):
            begun = search.uniform(generators) if start is None else search.project(start)
            search.run(begun, torch.stack([search.y, target], -1), targeted_dlr)
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
        x, y, estimator, budget, generators, start = problem
        search = search_for(estimator, budget, x, y, self.steps, early_stop=self.early_stop)
        loss, towards = (margin_loss, targeted_dlr) if estimator.per_example else (cross_entropy, pair_loss)
        begun = search.uniform(generators) if start is None else search.project(start)
        search.run(begun, search.y, loss)
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
