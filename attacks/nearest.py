"""What every minimal-norm attack keeps: each example's nearest wrong answer."""

import torch
from torch import Tensor

from attacks.perturbation_budget import Ball


class Nearest:
    """The point nearest to x0 that was answered wrongly, whatever eps is; the result is it, inside the ball.

    So an example whose nearest wrong answer lies beyond eps stands, and one run tells for every eps.

    Attributes:
        distance: ``[G, K]``, in the ball's norm and units; inf where there is no wrong answer yet.
        point: like x0; the last point seen where there is no wrong answer yet.
        movable: ``[G, K, 1, 1, 1]``, 1 where a slot may move at all, else 0.
    """

    def __init__(self, x0: Tensor, ball: Ball):
        self.x0, self.ball = x0, ball
        self.point = x0
        self.distance = torch.full(x0.shape[:2], torch.inf, dtype=x0.dtype, device=x0.device)
        self.movable = (ball.radius > 0).any(2, keepdim=True).to(x0).expand(*x0.shape[:2], 1, 1, 1)

    @property
    def found(self) -> Tensor:
        """``[G, K]``, whether there is a wrong answer yet."""
        return self.distance.isfinite()

    def length(self, u: Tensor) -> Tensor:
        """The norm of ``u`` ``[G, K, C, H, W]``, ``[G, K]``."""
        return torch.linalg.vector_norm(u.flatten(2), ord=self.ball.order, dim=-1)

    def at(self, u: Tensor) -> Tensor:
        """The point ``u`` away from x0 in the ball's units, inside the box."""
        return (self.x0 + self.movable * u * self.ball.unit).clamp(0, 1)

    def away(self, point: Tensor) -> Tensor:
        """How far a point is from x0, value by value, in the ball's units."""
        return (point - self.x0) / self.ball.unit

    def see(self, point: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        """Takes note of the answers to a point; ``[G, K]``, which are wrong."""
        wrong = logits.argmax(-1) != y
        distance = self.length(self.away(point))
        nearer = wrong & (distance < self.distance)
        self.point = torch.where((nearer | ~self.found)[..., None, None, None], point, self.point)
        self.distance = torch.where(nearer, distance, self.distance)
        return wrong

    def result(self) -> Tensor:
        """The nearest wrong answers, moved into the ball where they lie outside."""
        return self.ball.project_(self.point.clone())


def unit_length(u: Tensor) -> Tensor:
    """``u`` ``[G, K, C, H, W]`` divided by its Euclidean norm; 0 stays 0."""
    norm = torch.linalg.vector_norm(u, dim=(2, 3, 4), keepdim=True)
    return u / norm.clamp(min=torch.finfo(u.dtype).tiny)
