"""FAB, the fast adaptive boundary attack (arXiv 1907.02044): each example's nearest wrong answer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.algorithm import Algorithm
from attacks.apgd import likeliest_wrong
from attacks.estimators import Estimator
from attacks.losses import margin_loss, targeted_margin
from attacks.minimum_norm import Nearest, annealed, to_boundary
from attacks.solver import Problem, Solver, wide

# Of the paper: the largest share of the step from the clean point, and what is left of a wrong answer's move.
CLEAN_SHARE, BACK = 0.1, 0.9
# How far a step goes on the way to the plane, first (as in the paper) and last.
BEYOND, LAST_BEYOND = 1.05, 1.005
# Classes of which the nearest is chosen, and how many steps there are for each.
TARGETS, STEPS_EACH = 9, 5


@Algorithm("FAB", "FAB, the nearest wrong answer", example=100, paper="1907.02044", family="nearest")
@dataclass(frozen=True)
class Fab(Solver):
    """Steps to the plane on which a linear model of the network would be undecided between two classes.

    Each is a mean of the steps there from the current point and from the clean one, which keeps the walk
    close to the latter. The paper asks for every class's gradient in each step, and for another answer after
    it. Here the nearest class is chosen once, at the first point, and where an answer is wrong, its gradient
    serves at the point stepped back to: among ten classes, a step costs a fifth.

    Attributes:
        steps: gradients, the first of which choose the class; and one value for the last point.
    """

    steps: int

    def solve(self, problem: Problem) -> Tensor:
        """See ``attacks.solver.Solver``; from x, or from ``start``."""
        x, y, estimator, budget, _, start = problem
        nearest = Nearest(x, budget.around(x))
        point = x if start is None else start
        targets = max(1, min(TARGETS, self.steps // STEPS_EACH))
        pairs, cost = _nearest_class(estimator, point, y, targets, nearest)
        steps = self.steps - cost
        for step in range(steps):
            answer = estimator.gradient(point, pairs, targeted_margin)
            assert answer.grad is not None
            wrong = nearest.see(point, answer.logits, y)
            if step == steps // 2:  # the nearest class may be out of reach, on a plane that curves away
                likeliest = torch.stack([y, *likeliest_wrong(answer.logits, y, 1)], -1)
                pairs = torch.where(nearest.has_wrong_answer[..., None], pairs, likeliest)
            grad, u = answer.grad * nearest.ball.unit, nearest.away(point)
            gap = (grad * u).flatten(2).sum(-1) - answer.loss.to(u)  # from the clean point up to the plane
            u = torch.where(wide(wrong), BACK, 1.0) * u
            clean = _to_plane(torch.zeros_like(u), grad, gap, nearest)
            here = _to_plane(u, grad, gap - (grad * u).flatten(2).sum(-1), nearest)
            length = nearest.length(here)
            both = (length + nearest.length(clean)).clamp(min=torch.finfo(length.dtype).tiny)
            share = wide((length / both).clamp(max=CLEAN_SHARE))
            beyond = annealed(BEYOND, LAST_BEYOND, step, steps)
            point = nearest.at((1 - share) * (u + beyond * here) + share * beyond * clean)
        nearest.see(point, estimator.value(point, y, margin_loss).logits, y)
        return nearest.result()


def _nearest_class(
    estimator: Estimator, x: Tensor, y: Tensor, count: int, nearest: Nearest
) -> tuple[Tensor, int]:
    """Of the ``count`` likeliest wrong classes the one whose boundary is nearest, as far as gradients tell.

    Returns:
        Pairs of true class and that one ``[G, K, 2]``, and how many gradients it took.
    """
    estimate = estimator.gradient(x, y, margin_loss)
    classes = [torch.stack([y, target], -1) for target in likeliest_wrong(estimate.logits, y, count)]
    best, closest, cost = classes[0], torch.full_like(nearest.distance, torch.inf), 0
    for pairs in classes:
        estimate = estimator.gradient(x, pairs, targeted_margin) if cost else estimate
        assert estimate.grad is not None
        cost += 1
        distance = to_boundary(estimate.loss, estimate.grad * nearest.ball.unit, nearest.ball.order)
        best = torch.where((distance < closest)[..., None], pairs, best)
        closest = torch.minimum(distance.to(closest), closest)
    return best, cost


def _to_plane(u: Tensor, grad: Tensor, gap: Tensor, nearest: Nearest) -> Tensor:
    """The smallest move from ``u`` inside the box that raises ``<grad, u>`` by ``gap``, or as far as it goes.

    Args:
        u, grad: ``[G, K, C, H, W]`` in the ball's units.
        gap: ``[G, K]``, of either sign.
    """
    ball, tiny = nearest.ball, torch.finfo(u.dtype).tiny
    steepest = grad.abs().amax((2, 3, 4), keepdim=True).clamp(min=tiny)
    slope, gap = grad / steepest, gap[..., None] / steepest.flatten(2)
    toward = slope.sign() * wide(gap[..., 0].sign())
    x = nearest.x0 + u * ball.unit
    room = (torch.where(toward > 0, 1 - x, x) / ball.unit).clamp_min(0).flatten(2)
    size, gap = slope.abs().flatten(2), gap.abs()
    # Value i moves by min(t * rate_i, room_i) for one t, and reaches its room at its corner; in l1 the
    # steepest values move first, as far as they have room.
    rate = size if ball.order == 2 else torch.ones_like(size)
    corner = -size if ball.order == 1 else torch.where(size > 0, room / rate.clamp_min(tiny), 0)
    corner, order = corner.sort(-1)
    gain = (size * room).gather(-1, order)
    before = gain.cumsum(-1) - gain
    if ball.order == 1:
        moves = (gap - before).clamp_min(0) / size.gather(-1, order).clamp_min(tiny)
        moves = torch.minimum(moves, room.gather(-1, order))
        return torch.zeros_like(room).scatter_(-1, order, moves).view_as(u) * toward
    rest = (size * rate).gather(-1, order).flip(-1).cumsum(-1).flip(-1)
    at = torch.searchsorted(before + corner * rest, gap.contiguous()).clamp_max(size.shape[-1] - 1)
    t = (gap - before.gather(-1, at)).clamp_min(0) / rest.gather(-1, at).clamp_min(tiny)
    t = torch.minimum(t, corner[..., -1:])
    return torch.minimum(t * rate, room).view_as(u) * toward
