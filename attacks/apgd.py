"""Auto-PGD (arXiv 2003.01690): on one loss, on targeted losses, and multi-targeted (arXiv 1910.09338).

Momentum, and a step size that is halved per example; the search itself is in ``attacks.apgd_search``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.apgd_search import search_for
from attacks.attack import Attack, Problem
from attacks.losses import Loss, cross_entropy, margin_loss, pair_loss, targeted_dlr


@dataclass(frozen=True)
class Apgd(Attack):
    """Maximises one loss from the given start or a random one; further restarts begin at random.

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
        """See ``attacks.attack.Attack``; ``start`` is the first run's."""
        x, y, estimator, budget, generators, start = problem
        search = search_for(estimator, budget, x, y, self.steps, early_stop=self.early_stop)
        for run in range(self.restarts):
            begun = search.uniform(generators) if run or start is None else search.project(start)
            search.run(begun, search.y, self.loss, alone=self.restarts == 1)
        return search.result()


@dataclass(frozen=True)
class ApgdTargeted(Attack):
    """One run of ``Apgd`` on the targeted DLR loss for each of the likeliest wrong classes.

    Attributes:
        steps: steps of every run.
        targets: number of target classes, at most all wrong ones; the largest (draw-averaged) logits of clean
            x come first.
    """

    steps: int
    targets: int = 9

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.attack.Attack``; every target's run begins at ``start`` where there is one."""
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


@dataclass(frozen=True)
class ApgdMultiTargeted(Attack):
    """The most effective part comes first, and each run continues from the best point so far.

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
    targets: int = 3

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.attack.Attack``; the run on the margin begins at ``start`` where there is one."""
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
