"""Attacks in l0: at most eps pixels change, to anything in [0, 1]. All channels of a pixel count as one.

Sparse PGD (arXiv 2405.05075) ascends in the colours of all pixels and in a mask that says which of them
count. Sigma-zero (arXiv 2402.01879) descends in a smooth stand-in for the number of pixels, with a threshold
that keeps the iterate at the boundary; its paper counts values instead of pixels. Sparse-RS (arXiv
2006.12834) searches without gradients. The constants are those of the papers and of their authors' code.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.balls import drawn, most
from attacks.estimators import Estimator
from attacks.losses import Loss, cross_entropy, margin_loss
from attacks.minimum_norm import MARGIN_SPREAD, Nearest, annealed, level, unit_length
from attacks.score_based import search
from attacks.solver import Problem, Solver, wide

# Steps between two comparisons where one answer says little, because of chance or of co-batched inputs.
COMPARED = 10


class Best:
    """The best point so far, ``[G, K, C, H, W]``: what an attack returns.

    Where an answer is the example's own, that of every step decides, at no cost. Elsewhere the point of every
    ``COMPARED``-th step is compared with the best one under the same draws, each example by itself, as in
    ``attacks.score_based.search``.
    """

    def __init__(self, estimator: Estimator, y: Tensor, first: Tensor):
        self.point, self.margin = first, first.new_full(y.shape, -torch.inf)
        self._estimator, self._y, self._seen = estimator, y, 0

    def see(self, point: Tensor, margin: Tensor) -> None:
        """Takes note of one step's point and the margin loss ``[G, K]`` there."""
        if self._estimator.per_example:
            better = margin > self.margin
            self.point = torch.where(wide(better), point, self.point)
            self.margin = torch.maximum(margin, self.margin)
        elif self._seen == 0:
            self.point = point
        elif self._seen % COMPARED == 0:
            self.end(point)
        self._seen += 1

    def end(self, point: Tensor) -> Tensor:
        """The better of the best point and this one, whose loss is not known yet."""
        current, estimate = self._estimator.compare([self.point, point], self._y, margin_loss)
        self.point = torch.where(wide(estimate.loss > current.loss), point, self.point)
        return self.point


# Of arXiv 2405.05075: the step of colours; that of the mask, times the root of the number of pixels; and
# after how many steps without another choice of pixels it begins anew. The paper wants these steps one after
# the other, and draws another mask alone. Counted in all since the last beginning, and with other colours,
# too, 100 steps leave 51% of 200 images of digits-pgd-at at 2 pixels, and 63% otherwise.
COLOUR_STEP, MASK_STEP, PATIENCE = 0.25, 0.25, 3


@Algorithm(
    "sPGD-u",
    "sparse PGD, unprojected gradients",
    paper="2405.05075",
    takes=("steps", "loss"),
    fixed={"projected": False},
    norms=("l0",),
    loss="ce",
)
@Algorithm(
    "sPGD-p",
    "sparse PGD, projected gradients",
    paper="2405.05075",
    takes=("steps", "loss"),
    fixed={"projected": True},
    norms=("l0",),
    loss="ce",
)
@dataclass(frozen=True)
class SparsePgd(Solver):
    """Ascent in a mask, whose largest entries choose the pixels, and in their colours (algorithm 1).

    The point is x with the colours of the eps pixels whose mask is largest.

    Attributes:
        steps: gradients.
        projected: whether only the chosen pixels' colours move (sPGD_p), or those of all (sPGD_u).
        loss: what the steps increase.
    """

    steps: int
    projected: bool = False
    loss: Loss = cross_entropy

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; pixels that ``start`` changes are the first choice."""
        x, y, estimator, budget, generators, start = problem
        ball = budget.around(x)
        colours, mask = drawn(torch.rand, x, generators), drawn(torch.randn, x[:, :, :1], generators)
        if start is not None:
            start = ball.project_(start.clone())
            moved = (start != x).any(2, keepdim=True)
            colours = torch.where(moved, start, colours)
            mask = torch.where(moved, mask.abs(), -mask.abs())
        chosen = most(mask, ball.radius)
        adv = torch.where(chosen, colours, x)
        best = Best(estimator, y, adv)
        length = MASK_STEP * sqrt(x.shape[-2] * x.shape[-1])
        unchanged = torch.zeros_like(ball.radius.expand(*y.shape, 1, 1, 1))
        live = torch.ones_like(y, dtype=torch.bool)
        for _ in range(self.steps):
            if not bool(live.any()):
                break
            estimate = estimator.of_live(adv, y, self.loss, live, differentiate=True)
            grad = estimate.grad
            margin = torch.where(live, margin_loss(estimate.logits, y).to(x.dtype), -torch.inf)
            best.see(adv, margin)
            if self.early_stop:
                live &= margin <= 0
            share = torch.sigmoid(mask)  # of a pixel's colour that its mask lets through, in the gradient
            slope = (grad * (colours - x)).sum(2, keepdim=True) * share * (1 - share)
            mask = mask + length * unit_length(slope)
            uphill = torch.where(chosen, grad, 0) if self.projected else grad
            colours = (colours + COLOUR_STEP * uphill.sign()).clamp_(0, 1)
            # Drawn in every step: an example's numbers do not depend on when others begin anew.
            fresh = drawn(torch.randn, x[:, :, :1], generators), drawn(torch.rand, x, generators)
            same = (most(mask, ball.radius) == chosen).flatten(2).all(2)
            unchanged = unchanged + wide(same)
            stuck = unchanged >= PATIENCE
            mask, colours = torch.where(stuck, fresh[0], mask), torch.where(stuck, fresh[1], colours)
            unchanged = torch.where(stuck, 0, unchanged)
            chosen = most(mask, ball.radius)
            adv = torch.where(chosen, colours, x)
        return best.point if estimator.per_example else best.end(adv)


# Of arXiv 2402.01879: the width of the stand-in for l0; the first threshold and its change, relative to the
# step; the step, first and last.
WIDTH, THRESHOLD, CHANGE = 1e-3, 0.3, 0.01
STEP, LAST_STEP = 1.0, 0.1
FIRST, SECOND = 0.9, 0.999  # how long Adam's moments last


@Algorithm("Sigma-zero", "sigma-zero, the fewest pixels", paper="2402.01879", norms=("l0",), family="nearest")
@dataclass(frozen=True)
class SigmaZero(Solver):
    """The wrong answer with the fewest pixels changed, whatever eps is (algorithm 1).

    It ascends in the margin loss as long as an answer is right, and descends in the sum over pixels of
    m / (m + WIDTH), where m is the squared size of a pixel's move. Moves below a threshold are taken back;
    the threshold grows while the answer is wrong. Where answers are random or depend on co-batched inputs,
    one answer does not show the boundary: there it is at eps pixels instead.

    Attributes:
        steps: moves; as many gradients, and one value for the last point.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; from x, or from ``start``."""
        x, y, estimator, budget, _, start = problem
        ball = budget.around(x)
        nearest = Nearest(x, ball)
        u = nearest.away(x if start is None else start)
        mean, square = torch.zeros_like(u), torch.zeros_like(u)  # Adam's (arXiv 1412.6980, algorithm 1)
        threshold = torch.full_like(nearest.distance, THRESHOLD)
        best, scale = Best(estimator, y, x), torch.ones_like(threshold)
        for step in range(self.steps):
            answer = estimator.gradient(nearest.at(u), y, margin_loss)
            scale = level(answer.logits, MARGIN_SPREAD) if step == 0 else scale
            shrinks = nearest.see(nearest.at(u), answer.logits, y)
            if not estimator.per_example:
                best.see(ball.project_(nearest.at(u)), answer.loss)
                shrinks = ball.distance(nearest.at(u)) > 1
            moved = u.square().sum(2, keepdim=True)
            count = 2 * u * WIDTH / (moved + WIDTH).square() / moved[0, 0].numel()
            grad = torch.where(wide(shrinks), count, count - wide(scale) * answer.grad)
            size = grad.abs().amax((2, 3, 4), keepdim=True)
            grad = grad / size.clamp_min(torch.finfo(size.dtype).tiny)
            length = annealed(STEP, LAST_STEP, step, self.steps)
            mean, square = FIRST * mean + (1 - FIRST) * grad, SECOND * square + (1 - SECOND) * grad.square()
            metric = (square / (1 - SECOND ** (step + 1))).sqrt() + 1e-8
            u = u - length * mean / (1 - FIRST ** (step + 1)) / metric
            u = nearest.away(nearest.at(u))
            change = torch.where(shrinks, CHANGE, -CHANGE) * length
            threshold = (threshold + change).clamp(0, 1)
            u = torch.where(u.abs().amax(2, keepdim=True) < wide(threshold), 0, u)
        last = nearest.at(u)
        if not estimator.per_example:
            return best.end(ball.project_(last))
        nearest.see(last, estimator.value(last, y, margin_loss).logits, y)
        return nearest.result()


# Of arXiv 2006.12834: the share of the changed pixels that one query exchanges, and by what it is divided
# after these of 10,000 queries.
EXCHANGED = 0.3
DIVIDED = {50: 2, 200: 4, 500: 5, 1000: 6, 2000: 8, 4000: 10, 6000: 12, 8000: 15}


@Algorithm(
    "Sparse-RS", "Sparse-RS, random pixels", example=1000, paper="2006.12834", norms=("l0",), family="search"
)
@dataclass(frozen=True)
class SparseRs(Solver):
    """Some of the changed pixels are exchanged for others, each channel black or white at random.

    Attributes:
        steps: queries, including the first and those of kept points; the estimator decides what each costs.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; ``start`` replaces the first pixels."""
        x, y, estimator, budget, generators, start = problem
        ball = budget.around(x)

        def exchanged(query: int, best: Tensor) -> Tensor:
            passed = query * 10_000 // self.steps
            divisor = max((by for after, by in DIVIDED.items() if passed > after), default=1)
            count = (ball.radius * EXCHANGED / divisor).floor().clamp_min(1)
            changed = (best != x).any(2, keepdim=True)
            score = drawn(torch.rand, x[:, :, :1], generators)
            given_back = most(torch.where(changed, score, -1), count) & changed
            remaining = changed & ~given_back
            room = ball.radius - remaining.sum((2, 3, 4), keepdim=True)
            taken = most(torch.where(changed, -1, score), room) & ~changed
            colours = drawn(torch.rand, x, generators).round_()
            return torch.where(taken, colours, torch.where(remaining, best, x))

        first = ball.random_sign(generators) if start is None else ball.project_(start.clone())
        return search(first, exchanged, self.steps, y, estimator, early_stop=self.early_stop)
