"""A population of PGD's results, recombined: for margins with many local optima close to the boundary.

PGD from many starts ends in as many local optima. Exchanging windows between them, as genetic algorithms do
without gradients (GenAttack, arXiv 1805.11090), and a short ascent afterwards lead further than new starts.
Some adversarially trained networks have images on which gradient attacks fail although a mixed-integer solver
finds an adversarial example (arXiv 2206.06737). This attack is for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.apgd import likeliest_wrong
from attacks.attack import wide
from attacks.estimators import Estimator
from attacks.losses import Loss, margin_loss, targeted_margin
from attacks.perturbation_budget import Ball, PerturbationBudget

TARGETS, RUNS = 5, 24  # the likeliest wrong classes, and first runs, which aim at them in turn
KEPT, MEMBERS = 4, 48  # of the first runs, whose classes the population aims at; of the population
FIRST, AGAIN = 40, 25  # steps of an ascent: from a random start, and after an exchange
FAR, NEAR = 1 / 3, 1 / 30  # of eps: first steps, from a random start, and the smallest after an exchange
SHRINKS = 0.01  # the last step of an ascent, in first ones
MOMENTUM = 0.75
SPREADS = 8  # how far away the boundary may be, in differences between the best and the last kept run
PATIENCE = 10  # generations over which progress is measured


def most_gradients(generations: int) -> int:
    """How many gradients an example can cost."""
    return (RUNS + MEMBERS - KEPT) * FIRST + generations * MEMBERS * AGAIN


@dataclass(frozen=True)
class Crossover:
    """Returns the best point of the population.

    An example costs ``RUNS * FIRST`` gradients, and at most ``most_gradients(steps)``: it is given up if its
    first runs end alike and far from the boundary, or if its progress is too slow to reach the boundary.
    Where answers depend on draws or on other inputs, points of one example cannot be compared: there the
    attack is a single run of PGD on the margin.

    Attributes:
        steps: generations. In each, every member is recombined once.
        early_stop: stop on an example at its first wrong answer.
    """

    steps: int
    early_stop: bool = False

    def perturb(
        self,
        x: Tensor,
        y: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generators: Sequence[torch.Generator],
        start: Tensor | None = None,
    ) -> Tensor:
        """See ``attacks.attack.Attack``; ``start`` is where an example's first run begins."""
        if not estimator.per_example:
            ball = budget.around(x)
            at = ball.uniform(generators) if start is None else ball.project_(start.clone())
            return self._ascent(at, y, margin_loss, estimator, ball, FIRST, FAR * budget.eps)[0]
        logits, result = estimator.value(x, y, margin_loss).logits, x.clone()
        for g, generator in enumerate(generators):
            for k in range(x.shape[1]):
                if estimator.exhausted:
                    return result
                slot = slice(g, g + 1), slice(k, k + 1)
                targets = torch.cat(list(likeliest_wrong(logits[slot], y[slot], TARGETS)), 1)
                pairs = torch.stack([y[slot].expand_as(targets), targets], -1)
                scale = None if budget.eps_scale is None else budget.eps_scale[slot]
                begun = None if start is None else start[slot]
                of_slot = replace(budget, eps_scale=scale)
                result[slot] = self._search(x[slot], pairs, estimator, of_slot, generator, begun)
        return result

    def _search(
        self,
        x: Tensor,
        pairs: Tensor,
        estimator: Estimator,
        budget: PerturbationBudget,
        generator: torch.Generator,
        start: Tensor | None,
    ) -> Tensor:
        """The best point for one example ``[1, 1, C, H, W]``; ``pairs`` ``[1, targets, 2]``."""

        def around(n: int) -> Ball:
            scale = None if budget.eps_scale is None else budget.eps_scale.expand(1, n)
            return replace(budget, eps_scale=scale).around(x.expand(1, n, *x.shape[2:]))

        def ascended(
            at: Tensor, towards: Tensor, ball: Ball, steps: int, size: float
        ) -> tuple[Tensor, Tensor]:
            return self._ascent(at, towards, targeted_margin, estimator, ball, steps, size * budget.eps)

        pairs, ball = _repeated(pairs, RUNS), around(RUNS)
        begun = ball.uniform([generator])
        if start is not None:
            begun[:, :1] = start
        points, reached = ascended(ball.project_(begun), pairs, ball, FIRST, FAR)
        kept = reached[0].topk(KEPT).indices
        points, reached, pairs = points[:, kept], reached[:, kept], pairs[:, kept]
        spread = reached[0, 0] - reached[0, -1]
        if self._over(reached, estimator) or bool(-reached[0, 0] > SPREADS * spread):
            return points[:, :1]
        more, ball = _repeated(pairs, MEMBERS - KEPT), around(MEMBERS - KEPT)
        found, gained = ascended(ball.uniform([generator]), more, ball, FIRST, FAR)
        points, reached = torch.cat([points, found], 1), torch.cat([reached, gained], 1)
        pairs, ball = torch.cat([pairs, more], 1), around(MEMBERS)
        before = float(reached.max())
        for generation in range(self.steps):
            if self._over(reached, estimator):
                break
            if generation and generation % PATIENCE == 0:
                best = float(reached.max())
                if best + (best - before) / PATIENCE * (self.steps - generation) < 0:
                    break
                before = best
            partners = points[:, torch.randperm(MEMBERS, generator=generator).to(points.device)]
            child = ball.project_(torch.where(_windows(points, generator), partners, points))
            size = NEAR * (FAR / NEAR) ** float(torch.rand((), generator=generator))
            found, gained = ascended(child, pairs, ball, AGAIN, size)
            better = gained > reached
            points, reached = torch.where(wide(better), found, points), torch.where(better, gained, reached)
        return points[:, reached[0].argmax()][:, None]

    def _over(self, reached: Tensor, estimator: Estimator) -> bool:
        return estimator.exhausted or (self.early_stop and bool((reached > 0).any()))

    def _ascent(
        self, at: Tensor, y: Tensor, loss: Loss, estimator: Estimator, ball: Ball, steps: int, size: float
    ) -> tuple[Tensor, Tensor]:
        """PGD with momentum, steps shrinking from ``size``: the best points and their losses ``[G, K]``."""
        best, reached = at, torch.full(at.shape[:2], -torch.inf, dtype=at.dtype, device=at.device)
        velocity = torch.zeros_like(at)
        for step in range(steps):
            if self._over(reached, estimator):
                break
            found = estimator.gradient(at, y, loss)
            assert found.grad is not None
            better = found.loss > reached
            best, reached = torch.where(wide(better), at, best), torch.where(better, found.loss, reached)
            length = found.grad.abs().sum((2, 3, 4), keepdim=True)
            velocity = MOMENTUM * velocity + found.grad / length.clamp(min=1e-30)
            at = ball.step_(at.clone(), velocity, size * SHRINKS ** (step / (steps - 1)))
        return best, reached


def _repeated(pairs: Tensor, n: int) -> Tensor:
    """``[1, m, 2]`` as ``[1, n, 2]``, in turn."""
    return pairs[:, torch.arange(n, device=pairs.device) % pairs.shape[1]]


def _windows(x: Tensor, generator: torch.Generator) -> Tensor:
    """``[1, n, 1, H, W]``, true in a window of each of n points, at most half as high and wide."""
    n, (height, width) = x.shape[1], x.shape[-2:]

    def within(size: int) -> Tensor:
        middle, reach = torch.rand(2, 1, n, 1, 1, generator=generator)
        return (torch.arange(size) + 0.5 - size * middle).abs() <= size * reach / 4 + 0.5

    return (within(height)[..., None] & within(width)[..., None, :]).to(x.device)
