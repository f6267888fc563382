"""Two random ensembles of linear models: one that randomness protects, one that it only hides.

Patterns s, v, v_1 ... of -1 and 1 are orthogonal. Model i has the score s~ + c v~_i, where s~ is the mean of
s (x - 0.5), and so on; its l1 norm decides how far a perturbation moves it. Each input is answered by a model
drawn for it alone.

``opposed`` has the models s~ + 3 v~ and s~ - 3 v~, images flat along v, and margins m between eps and 3 eps.
Both tell a second bit of the label by another pattern, at a margin of 2 eps, which cannot be turned.

- Draw unknown: the two margins add up to 2 s~, which a perturbation takes to 2 (m - eps) > 0 at worst, so
  that it never fools both; and moving every pixel against one model takes eps ||s + 3 v||_1 / 64 = 3 eps > m
  off its margin. The best attack fools one of two: exactly 50%.
- Draw known: the model drawn is attacked, 0%.

With the second bit there are four classes, of which a constant answer keeps 25%.

``decoys`` has eight models s~ + 3 v~_i with margins below eps, and a ninth, s~ + 3 v~_9, as base. The
perturbation that moves every pixel by eps against s takes eps off every margin at once (v_i is orthogonal to
s): 0%, known or not. But the gradient of each model has the signs of its decoy v_i, because 3 > 1, which are
orthogonal to s and to the other decoys: an attack on one draw, or on the base, moves no other model. Only the
average over draws shows s.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustbench_coded.zoo import linear
from robustbench_coded.zoo.known import Known, Truth, exactly

DECOY_WEIGHT = 3.0


class RandomMember:
    """Answers each input by a member drawn for it; a draw is int64 [k]."""

    randomised = True
    batch_dependent = False

    def __init__(self, name: str, members: Sequence[nn.Module], base: nn.Module | None = None):
        self.name = name
        self.members = list(members)
        self.base = base

    def images(self, k: int) -> int:
        """All members answer all inputs; which answer counts is the draw."""
        return k * len(self.members)

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
        return torch.randint(len(self.members), (k,), generator=generator)

    def logits(self, x: Tensor, draw: Tensor) -> Tensor:
        answers = torch.stack([member(x) for member in self.members])
        return answers[draw.to(x.device), torch.arange(len(x), device=x.device)]


def known_opposed(n: int = 640, eps: float = 0.05) -> Known:
    shared, conflict, second = linear.pattern(11), linear.pattern(22), linear.pattern(36)
    fine_models = [linear.along(shared + sign * DECOY_WEIGHT * conflict) for sign in (1, -1)]
    coarse = linear.along(second)
    planted = linear.planted_margins(
        linear.spread(1.4 * eps, 2.4 * eps, n), shared, flat_along=[conflict, second]
    )
    x, y = linear.with_coarse_bit(planted, second, 2 * eps)
    fine = y % 2
    # One falls where its worst margin is negative; not both where the shared part keeps its sign.
    one_falls = torch.stack([linear.worst_margins(model, x, fine, eps) < 0 for model in fine_models]).any(0)
    coarse_stands = linear.worst_margins(coarse, x, y // 2, eps) > 0
    not_both = coarse_stands & (linear.worst_margins(linear.along(shared), x, fine, eps) > 0)
    high = (1 - 0.5 * one_falls.double()).mean().item()
    low = (0.5 * not_both.double()).mean().item()
    # Under a known draw an input stands where the member drawn does.
    stands = torch.stack(
        [coarse_stands & (linear.worst_margins(model, x, fine, eps) > 0) for model in fine_models]
    )
    drawn, hidden = exactly(stands.double().mean().item()), Truth(low, high)
    members = [linear.TwoBits(coarse, model) for model in fine_models]
    defence = RandomMember("ensemble-opposed", members)
    return Known(
        defence,
        x,
        y,
        128,
        exactly(_mean_accuracy(members, x, y)),
        lambda threat: drawn if threat.endswith("/known") else hidden,
    )


def known_decoys(n: int = 640, eps: float = 0.1) -> Known:
    shared, decoys = linear.pattern(13), [linear.pattern(row) for row in (3, 14, 17, 28, 39, 46, 53, 56, 60)]
    models = [linear.along(shared + DECOY_WEIGHT * decoy) for decoy in decoys]
    members, base = models[:-1], models[-1]
    x, y = linear.planted_margins(linear.spread(0.2 * eps, 0.5 * eps, n), shared, flat_along=decoys)
    against = x - (2 * y - 1).view(-1, 1, 1, 1) * eps * shared
    robust = Truth(0.0, _mean_accuracy(members, against.clamp(0, 1), y))
    defence = RandomMember("ensemble-decoys", members, base)
    return Known(defence, x, y, 128, exactly(_mean_accuracy(members, x, y)), lambda threat: robust)


def _mean_accuracy(members: Sequence[nn.Module], x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return torch.stack([(member(x).argmax(1) == y).double() for member in members]).mean().item()
