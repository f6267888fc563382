"""Unions of balls: an attacker who may choose one of several norms for each input (arXiv 1904.13000).

Every attack runs in each member, and the worst for each input is its result, for each batch where inputs are
answered together (``attacks.attack.better_of``). On a deterministic network an input is therefore answered
rightly under the union where it is under every member, with the same random numbers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from attacks.balls import Ball


class UnionBall(Ball):
    """Every point of one of the members, as checks and controls ask for it; attacks move in the members."""

    solid = False

    def __init__(self, members: Sequence[Ball]):
        self.members = members
        self.x0 = members[0].x0

    def project_(self, x: Tensor) -> Tensor:
        """The nearest of the members' points, in the Euclidean sense."""
        points = torch.stack([ball.project_(x.clone()) for ball in self.members])
        return x.copy_(_chosen(points, (points - x).flatten(3).norm(dim=-1).argmin(0)))

    def random_sign(self, generators: Sequence[torch.Generator]) -> Tensor:
        """That of a random member for each input."""
        which = torch.stack(
            [torch.randint(len(self.members), self.x0.shape[1:2], generator=g) for g in generators]
        )
        points = torch.stack([ball.random_sign(generators) for ball in self.members])
        return _chosen(points, which.to(points.device))

    def distance(self, x: Tensor) -> Tensor:
        """From the member that needs the smallest part of its radius."""
        return torch.stack([ball.distance(x) for ball in self.members]).amin(0)


def _chosen(points: Tensor, which: Tensor) -> Tensor:
    """Of points ``[n, G, K, C, H, W]`` one for each input, by numbers ``[G, K]``."""
    return points.gather(0, which[None, :, :, None, None, None].expand(points[:1].shape))[0]
