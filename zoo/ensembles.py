"""Random ensembles of linear models whose members have to be fooled together.

Each input is answered by a member drawn for it. Members tell a fine bit of the label, each along a pattern of
its own; patterns are orthogonal, so a perturbation that moves every pixel by eps against one of them leaves
the others where they were. A coarse bit, at a margin that cannot be turned, makes four classes.

Five members: one is out of reach (margin of 3 eps), one is always wrong, and three have the margin ``m``.

- ``m`` of 0.4 eps: the signs of the sum of three patterns have a correlation of one half with each, so that
  moving every pixel by eps against them takes eps / 2 off each of three margins: all three are fooled
  together, and what is left is the member out of reach. Gradients averaged over members follow the member
  that is wrong anyway, or the one with the largest logits (arXiv 2206.06737).
- ``m`` of 0.6 eps: two patterns have a mean absolute sum of 1, so that two margins can lose eps together at
  most, and no two of these members can be fooled at once: one of three is, and the others stand.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from zoo import linear
from zoo.known import Known, Truth, exactly
from zoo.noisy import RandomMember

FINE = (5, 19, 42)  # patterns of the members that can be fooled
FAR, WRONG, COARSE = 27, 50, 12
TOGETHER, APART = 0.4, 0.6  # margins, in eps


class WeightedMember(RandomMember):
    """Some members are drawn more often than others.

    Attributes:
        weights: [members], summing to 1.
    """

    def __init__(self, name: str, members: Sequence[nn.Module], weights: Tensor):
        super().__init__(name, members)
        self.weights = weights

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
        return torch.multinomial(self.weights, k, replacement=True, generator=generator)


def known_members(
    name: str,
    margin: float,
    gains: Sequence[float],
    weights: Sequence[float],
    *,
    n: int,
    eps: float,
) -> Known:
    """Five members in the order fine, fine, fine, far, wrong.

    Args:
        margin: of the fine members, in eps.
        gains: scales of the members' logits, which change no answer.
        weights: how often each is drawn.
    """
    rows = (*FINE, FAR, WRONG)
    distances = eps * torch.tensor([margin, margin, margin, 3.0, -2.0])
    y = torch.arange(n) % 4
    sign = (2 * (y % 2) - 1).view(-1, 1, 1, 1)
    coarse = (2 * (y // 2) - 1).view(-1, 1, 1, 1) * 2 * eps * linear.pattern(COARSE)
    planted = sum(float(d) * linear.pattern(row) for d, row in zip(distances, rows))
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * eps * torch.randn(n, 1, linear.SIDE, linear.SIDE, generator=generator)
    for row in (*rows, COARSE):
        noise = noise - (noise * linear.pattern(row)).mean((1, 2, 3), keepdim=True) * linear.pattern(row)
    x = ((0.5 + sign * planted + coarse + noise) * 255).round() / 255
    models = [linear.along(linear.pattern(row)) for row in rows]
    for model, gain in zip(models, gains):
        model.gain *= gain
    members = [linear.TwoBits(linear.along(linear.pattern(COARSE)), model) for model in models]
    share = torch.tensor(weights, dtype=torch.float64)
    defence = WeightedMember(name, members, share.float())
    right = torch.stack([linear.margins(model, x, y % 2) > 0 for model in models]).double()
    clean = exactly((share[:, None] * right).sum(0).mean().item())
    drawn = torch.stack([linear.worst_margins(model, x, y % 2, eps) > 0 for model in models]).double()
    known = exactly((share[:, None] * drawn).sum(0).mean().item())
    hidden = _best_of_known_perturbations(models, share, x, y % 2, eps)
    return Known(defence, x, y, clean, lambda threat: known if threat.endswith("/known") else hidden)


def _best_of_known_perturbations(
    models: Sequence[linear.LinearModel], share: Tensor, x: Tensor, y: Tensor, eps: float
) -> Truth:
    """What the best of all sums of patterns leaves, and what no perturbation can take."""
    robust = torch.ones(len(x), dtype=torch.float64)
    sets = [chosen for size in (1, 2, 3) for chosen in combinations(FINE, size)]
    for chosen in sets:
        direction = torch.stack([linear.pattern(row) for row in chosen]).sum(0)
        # Where patterns cancel out, the first of them decides.
        direction = torch.where(direction == 0, linear.pattern(chosen[0]), direction).sign()
        at = x - (2 * y - 1).view(-1, 1, 1, 1) * eps * direction
        right = torch.stack([linear.margins(model, at, y) > 0 for model in models]).double()
        robust = torch.minimum(robust, (share[:, None] * right).sum(0))
    stands = torch.stack([linear.worst_margins(model, x, y, eps) > 0 for model in models]).double()
    low = (share[:, None] * stands).sum(0)
    # No two fine members fall together where their margins add up to more than a perturbation can take.
    fine = torch.stack([linear.margins(model, x, y) for model in models[: len(FINE)]])
    sums = [fine[i] + fine[j] for i, j in combinations(range(len(FINE)), 2)]
    if all(bool((pair > eps).all()) for pair in sums):
        low = low + share[: len(FINE)].sum() - share[: len(FINE)].max()
    return Truth(min(low.mean().item(), robust.mean().item()), robust.mean().item())


EQUAL = (0.2,) * 5


def known_together(n: int = 256, eps: float = 0.05) -> Known:
    return known_members("members-together", TOGETHER, (1,) * 5, EQUAL, n=n, eps=eps)


def known_scaled(n: int = 256, eps: float = 0.05) -> Known:
    """The logits of the second fine member are 100 times as large as those of the first and the third."""
    return known_members("members-scaled", TOGETHER, (0.1, 10, 0.1, 1, 1), EQUAL, n=n, eps=eps)


def known_weighted(n: int = 256, eps: float = 0.05) -> Known:
    weights = (0.3, 0.15, 0.15, 0.2, 0.2)
    return known_members("members-weighted", TOGETHER, (1,) * 5, weights, n=n, eps=eps)


def known_apart(n: int = 256, eps: float = 0.05) -> Known:
    return known_members("members-apart", APART, (1,) * 5, EQUAL, n=n, eps=eps)


def known_apart_scaled(n: int = 256, eps: float = 0.05) -> Known:
    return known_members("members-apart-scaled", APART, (0.1, 10, 0.1, 1, 1), EQUAL, n=n, eps=eps)
