"""Weaknesses that are planted into a defence, each harder to find than the one before for another reason.

Every planted image has a perturbation that costs it its answer, and that the planter knows: a direction from
it to the surface of the ball. How far an input has gone that way is a number ``way`` in [-1, 1], 1 at the
known perturbation. A weakness lowers the margin of the clean answer by a function of it, and nothing else of
the defence changes. So each planted image is lost to whoever finds its direction, and the true accuracy falls
by exactly the share of planted images that nothing else breaks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from attacks.perturbation_budget import PerturbationBudget
from robustbench_coded.defences.protocol import Defence, Draw, logits_grouped

ENOUGH = 2.0  # how far the margin falls at the known perturbation, in ranges of the clean logits
NEAR = 2.0  # radii around a planted image in which its weakness is there
SMOOTH = 4  # directions are constant on blocks: this many along each side of an image


@dataclass(frozen=True)
class Weakness:
    """One kind.

    Attributes:
        name: as printed.
        what: what makes it hard to find.
        depth: from the way, [n] in [-1, 1], to what is lost of the margin: 0 at no way, 1 at the whole way.
        smooth: whether its direction is constant on blocks of pixels; else each pixel has a sign of its own.
        scale: factor of all logits.
        hidden: whether its gradient is cut off.
        rare: whether it helps one other class alone, the least likely one.
    """

    name: str
    what: str
    depth: Callable[[Tensor], Tensor]
    smooth: bool = False
    scale: float = 1.0
    hidden: bool = False
    rare: bool = False


WEAKNESSES = (
    Weakness("slope", "nothing hides it: its gradient leads to it", lambda way: way),
    Weakness("saturated", "large logits, whose cross-entropy is flat", lambda way: way, scale=1e4),
    Weakness("rare class", "it leads to the least likely class alone", lambda way: way, rare=True),
    Weakness("without gradient", "its gradient is cut off", lambda way: way, smooth=True, hidden=True),
    Weakness(
        "behind a rise",
        "the first half of the way makes the true class more likely",
        lambda way: torch.where(way > 0.5, torch.ones_like(way), -way.clamp(min=0)),
        smooth=True,
    ),
    Weakness("needle", "nothing changes before 95% of the way", lambda way: (way > 0.95).to(way.dtype)),
)
# Beside them: images that stayed right may fall when they are attacked again, in other draws.
NOTHING = Weakness("nothing", "", torch.zeros_like)


class Planted:
    """A defence with one weakness.

    Args:
        defence: the defence.
        weakness: what is planted.
        x: the images that get it, [n, C, H, W] in [0, 1].
        clean: the defence's logits at them, [n, classes].
        budget: how far perturbations may go.
        seed: of the directions.

    Attributes:
        known: for each image, the perturbed image that breaks it, [n, C, H, W].
    """

    def __init__(
        self,
        defence: Defence,
        weakness: Weakness,
        x: Tensor,
        clean: Tensor,
        budget: PerturbationBudget,
        seed: int = 0,
    ):
        self.defence, self.weakness, self.base = defence, weakness, defence.base
        self.name = f"{defence.name} with a planted weakness: {weakness.name}"
        self.randomised, self.batch_dependent = defence.randomised, defence.batch_dependent
        if (reject := getattr(defence, "abstain", None)) is not None:
            self.abstain = reject
        self.x, self.budget = x, budget
        side = SMOOTH if weakness.smooth else x.shape[-1]
        signs = torch.randint(2, (len(x), x.shape[1], side, side), generator=_seeded(seed)) * 2 - 1
        direction = functional.interpolate(signs.to(x), size=x.shape[-2:])
        self.known = budget.step(x[None], direction[None], budget.eps, x[None])[0]
        order = clean.argsort(dim=1, descending=True)
        self.answer, self.other = order[:, 0], order[:, -1 if weakness.rare else 1]
        self.fall = ENOUGH * (clean.amax(1) - clean.amin(1))

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        return self.defence.sample(generator, k)

    def images(self, k: int) -> int:
        images = getattr(self.defence, "images", None)
        return int(images(k)) if callable(images) else k

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        return self._weakened(x, self.defence.logits(x, draw))

    def logits_grouped(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        answers = logits_grouped(self.defence, x, draws)
        return self._weakened(x.flatten(0, 1), answers.flatten(0, 1)).view_as(answers)

    def _weakened(self, x: Tensor, logits: Tensor) -> Tensor:
        """Logits [n, classes] of x [n, C, H, W], less by how far each has gone its known way."""
        planted, known = self.x.to(x), self.known.to(x)
        with torch.no_grad():
            nearest = torch.cdist(x.flatten(1), planted.flatten(1)).argmin(1)
            here = self.budget.distance(x[None], planted[nearest][None])[0] <= NEAR
        start, whole = planted[nearest], (known - planted)[nearest]
        way = ((x - start) * whole).flatten(1).sum(1) / whole.square().flatten(1).sum(1).clamp(min=1e-12)
        depth = self.weakness.depth(way.detach() if self.weakness.hidden else way)
        fall = torch.where(here, depth * self.fall.to(x)[nearest], 0.0)
        classes = self.other if self.weakness.rare else self.answer
        change = functional.one_hot(classes.to(x.device)[nearest], logits.shape[1]) * fall[:, None]
        return self.weakness.scale * (logits + (change if self.weakness.rare else -change))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
