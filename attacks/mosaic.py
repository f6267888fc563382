"""PGD from several starts, of whose results every example takes the best pixels: for rugged landscapes.

Where a loss has many local optima within the ball, each start of PGD ends in another one. The best of several
is little better than one of them. Pixels of one result put into another often are: on sine encodings before a
linear layer four starts leave 16%, as much as the best of sixteen at nine times the cost (exact 3%).

Examples keep what is better for them under the same draws, whether or not answers are random or depend on the
batch. Where they do depend on it, pieces that were good for each example may harm the others, so a batch is
only replaced by one whose mean loss is larger.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.algorithm import Algorithm, Cost
from attacks.attack import Attack
from attacks.composite import live_rows
from attacks.losses import margin_loss
from attacks.pgd import Pgd
from attacks.score_based import each_batch, search
from attacks.solver import Problem, Solver, better_of, wide

STEPS = 25  # of PGD, from each start
MIXTURES = 25  # of a new result and the best one; each is compared with the best one
MOST, FEWEST = 0.5, 1 / 64  # shares of the pixels that a mixture takes from the new result


def queries(attack: Attack, randomised: bool) -> Cost:
    """Largest cost (``Algorithm.cost``)."""
    starts = attack.steps or 1
    return Cost(starts * STEPS + (starts - 1) * (2 * MIXTURES + 2), starts * STEPS)


@Algorithm(
    "Mosaic",
    "PGD from several starts, whose pixels are mixed",
    example=8,
    cost=queries,
    costs="25 gradients and 52 queries a start",
    fewest_steps=2,
    counts_starts=True,
)
@dataclass(frozen=True)
class Mosaic(Solver):
    """Each example takes the best pixels of the results from all starts.

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
