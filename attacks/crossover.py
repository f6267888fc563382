"""A population of PGD's results, recombined: for margins with many local optima close to the boundary.

PGD from many starts ends in as many local optima, in better ones if ReLUs have a smooth slope at first, of a
width that differs between starts (``SmoothedReLU``). Exchanging windows between them, as genetic
algorithms do without gradients (GenAttack, arXiv 1805.11090), and a short ascent afterwards lead further than
new starts. Some adversarially trained networks have images on which gradient attacks fail although a
mixed-integer solver finds an adversarial example (Zhang and others, ICML 2022). This attack is for them.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from attacks.algorithm import Algorithm, Cost
from attacks.apgd import likeliest_wrong
from attacks.attack import Attack
from attacks.balls import Ball
from attacks.estimators import Estimator
from attacks.losses import Loss, margin_loss, targeted_margin
from attacks.solver import Problem, Solver, wide

TARGETS, RUNS = 5, 24  # the likeliest wrong classes, and first runs, which aim at them in turn
ELITE, MEMBERS = 4, 48  # of the first runs, whose classes the population aims at; of the population
LONG, SHORT = 100, 25  # steps of an ascent: from a random start, and after an exchange
FAR, NEAR = 1 / 3, 1 / 30  # of eps: first steps, from a random start, and the smallest after an exchange
SHRINKS = 0.01  # the last step of an ascent, in first ones
MOMENTUM = 0.75
WIDEST, NARROWEST = 0.5, 0.05  # ReLUs at the beginning of an ascent, in deviations of their inputs
SMOOTH = 0.7  # of an ascent's steps
SPREADS = 8  # how far away the boundary may be, in differences between the best and the last kept run,
NEARBY = 1 / 20  # or of the margin of the clean input
PATIENCE, FILLED = 10, 3  # generations over which progress is measured; how often a population is filled up


def most_gradients(generations: int) -> int:
    """How many gradients an example can cost."""
    filled = min(FILLED, ceil(generations / PATIENCE)) * (MEMBERS - ELITE) * LONG
    return 1 + RUNS * LONG + filled + generations * MEMBERS * SHORT


RECOMBINED = 1 / 20  # of what an example may cost after its first runs: most are given up early


def queries(attack: Attack, randomised: bool) -> Cost:
    """Approximate cost (``Algorithm.cost``)."""
    if randomised:
        return Cost(LONG, LONG)
    first = LONG * RUNS
    gradients = ceil(first + RECOMBINED * (most_gradients(attack.steps or 1) - first))
    return Cost(gradients, gradients)


@Algorithm(
    "Crossover", "results of PGD, recombined", example=160, cost=queries, costs="2,401 to 207,601 gradients"
)
@dataclass(frozen=True)
class Crossover(Solver):
    """Results of PGD close to the boundary, recombined in generations; returns the best point of all.

    An example costs ``1 + RUNS * LONG`` gradients, and at most ``most_gradients(steps)``: it is given up if
    its first runs end alike and far from the boundary. Where progress is too slow to reach the boundary, new
    starts take the place of all but the best members, up to ``FILLED`` times with the first; then it is given
    up. Where answers depend on draws or on other inputs, points of one example cannot be compared: there the
    attack is a single run of PGD on the margin.

    Attributes:
        steps: generations. In each, every member is recombined once.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; ``start`` is where an example's first run begins."""
        x, y, estimator, budget, generators, start = problem
        if not estimator.per_example:
            ball = budget.around(x)
            at = ball.uniform(generators) if start is None else ball.project_(start.clone())
            return self._ascent(at, y, margin_loss, estimator, ball, LONG, FAR * budget.eps)[0]
        clean, result = estimator.gradient(x, y, margin_loss), x.clone()  # without a gradient it ends here
        for g, generator in enumerate(generators):
            for k in range(x.shape[1]):
                slot = slice(g, g + 1), slice(k, k + 1)
                targets = torch.cat(list(likeliest_wrong(clean.logits[slot], y[slot], TARGETS)), 1)
                pairs = torch.stack([y[slot].expand_as(targets), targets], -1)
                scale = None if budget.eps_scale is None else budget.eps_scale[slot]
                begun = None if start is None else start[slot]
                of_slot = replace(budget, eps_scale=scale)
                of_example = Problem(x[slot], y[slot], estimator, of_slot, [generator], begun)
                result[slot] = self._search(of_example, pairs, -float(clean.loss[g, k]))
        return result

    def _search(self, problem: Problem, pairs: Tensor, clean: float) -> Tensor:
        """The best point for one example ``[1, 1, C, H, W]``.

        ``pairs`` ``[1, targets, 2]``; ``clean``: by how much the true class leads at ``x``.
        """
        x, _, estimator, budget, (generator,), start = problem

        def around(n: int) -> Ball:
            scale = None if budget.eps_scale is None else budget.eps_scale.expand(1, n)
            return replace(budget, eps_scale=scale).around(x.expand(1, n, *x.shape[2:]))

        def ascended(at: Tensor, towards: Tensor, ball: Ball) -> tuple[Tensor, Tensor]:
            narrow = torch.rand(at.shape[1], generator=generator)
            widths = WIDEST * (NARROWEST / WIDEST) ** narrow
            size = FAR * budget.eps
            return self._ascent(at, towards, targeted_margin, estimator, ball, LONG, size, widths)

        pairs, ball = _repeated(pairs, RUNS), around(RUNS)
        begun = ball.uniform([generator])
        if start is not None:
            begun[:, :1] = start
        points, reached = ascended(ball.project_(begun), pairs, ball)

        def keep_best() -> None:
            nonlocal points, reached, pairs
            top = reached[0].topk(ELITE).indices
            points, reached, pairs = points[:, top], reached[:, top], pairs[:, top]

        keep_best()
        spread = reached[0, 0] - reached[0, -1]
        far = bool(-reached[0, 0] > max(SPREADS * float(spread), NEARBY * clean))
        if self._over(reached) or far:
            return points[:, :1]
        filled, before = 0, -torch.inf
        for generation in range(self.steps):
            if self._over(reached):
                break
            best = float(reached.max())
            progress = (best - before) / PATIENCE * (self.steps - generation)
            if generation % PATIENCE == 0 and (generation == 0 or best + progress < 0):
                if filled == FILLED:
                    break
                filled += 1
                keep_best()
                more, ball = _repeated(pairs, MEMBERS - ELITE), around(MEMBERS - ELITE)
                moved, gained = ascended(ball.uniform([generator]), more, ball)
                points, reached = torch.cat([points, moved], 1), torch.cat([reached, gained], 1)
                pairs, ball = torch.cat([pairs, more], 1), around(MEMBERS)
            if generation % PATIENCE == 0:
                before = float(reached.max())
            partners = points[:, torch.randperm(MEMBERS, generator=generator).to(points.device)]
            child = ball.project_(torch.where(_windows(points, generator), partners, points))
            size = NEAR * (FAR / NEAR) ** float(torch.rand((), generator=generator)) * budget.eps
            moved, gained = self._ascent(child, pairs, targeted_margin, estimator, ball, SHORT, size)
            better = gained > reached
            points, reached = torch.where(wide(better), moved, points), torch.where(better, gained, reached)
        return points[:, reached[0].argmax()][:, None]

    def _over(self, reached: Tensor) -> bool:
        return self.early_stop and bool((reached > 0).any())

    def _ascent(
        self,
        at: Tensor,
        y: Tensor,
        loss: Loss,
        estimator: Estimator,
        ball: Ball,
        steps: int,
        size: float,
        widths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """PGD with momentum, steps shrinking from ``size``: the best points and their losses ``[G, K]``.

        ``widths`` ``[K]``, G being 1: of ReLUs, at first.
        """
        best, reached = at, torch.full(at.shape[:2], -torch.inf, dtype=at.dtype, device=at.device)
        velocity = torch.zeros_like(at)
        for step in range(steps):
            if self._over(reached):
                break
            done = step / (steps - 1)
            width = max(0.0, 1 - done / SMOOTH)
            with nullcontext() if widths is None or not width else SmoothedReLU(widths * width**2):
                estimate = estimator.gradient(at, y, loss)
            better = (estimate.loss > reached) | (not estimator.per_example)  # else the last point
            best, reached = torch.where(wide(better), at, best), torch.where(better, estimate.loss, reached)
            length = estimate.grad.abs().sum((2, 3, 4), keepdim=True)
            velocity = MOMENTUM * velocity + estimate.grad / length.clamp(min=1e-30)
            at = ball.step_(at.clone(), velocity, size * SHRINKS**done)
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


# The gradient of a ReLU that is off is zero, however close it is to being on: an ascent keeps most of the
# activation pattern that it starts with. With the slope of a sigmoid it sees the neighbouring patterns, too.
# The width shrinks to nothing during an ascent, as in graduated non-convexity. Forwards are unchanged.


class SmoothedReLU(TorchFunctionMode):
    """Within it, the slope of a ReLU at z is sigmoid(z / (width * s)), s the deviation of the layer's inputs.

    Args:
        widths: ``[n]``, one for each input of a batch of n; batches of another size take their mean.
    """

    def __init__(self, widths: Tensor):
        super().__init__()
        self.widths = widths

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        z: Tensor = args[0] if args else kwargs["input"]
        if not z.is_floating_point() or not z.ndim:
            return func(*args, **kwargs)
        in_place = func in _IN_PLACE or kwargs.get("inplace") or args[1:] == (True,)
        widths = self.widths.to(z) if len(z) == len(self.widths) else self.widths.mean().to(z)[None]
        width = (widths * z.detach().std(correction=0)).clamp(min=torch.finfo(z.dtype).tiny)
        smooth = _Smooth.apply(z.clone() if in_place else z, width.view(-1, *[1] * (z.ndim - 1)))
        return z.copy_(smooth) if in_place else smooth


_IN_PLACE = (torch.relu_, Tensor.relu_)
_RELUS = (functional.relu, torch.relu, Tensor.relu, *_IN_PLACE)


class _Counted(TorchFunctionMode):
    relus = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.relus += args[0].numel() if func in _RELUS and args else 0
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def relus(model: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """How many ReLUs answer ``x`` ``[1, C, H, W]``."""
    with _Counted() as counted:
        model(x)
    return counted.relus


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, width: Tensor) -> Tensor:
        ctx.save_for_backward(z, width)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        z, width = ctx.saved_tensors
        return grads[0] * torch.sigmoid(z / width), None
