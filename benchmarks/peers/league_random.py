"""The league's counter in front of a random defence, and what an attack is worth there.

One wrong answer of a random defence says little: it may have been luck. The point that an attack ends with is
asked again, under draws that the attack has not seen.
"""

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.league_counter import Counter
from robustbench_coded.defences.protocol import Defence


class CountedDefence(Counter):
    """A random defence that keeps accounts: a module that draws in every answer, and a ``Defence``.

    Other libraries see the module. Ours sees what it would see of any defence: draws that it may fix.

    Args:
        defence: its base model is shown to nobody.
        x, y: the clean inputs [n, C, H, W] and labels [n]; they are one batch.

    Attributes:
        reached: the last point inside its ball that each example was asked at, [n, C, H, W].
    """

    base = None

    def __init__(self, defence: Defence, x: Tensor, y: Tensor, eps: float, budget: int):
        super().__init__(x, eps, budget)
        self.defence, self.y, self.reached = defence, y, x.clone()
        self.name, self.randomised = defence.name, defence.randomised
        self.batch_dependent = defence.batch_dependent
        self._generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            self.classes = defence.logits(x, self.sample(self._generator, len(x))).shape[1]
        self.eval()

    def sample(self, generator: torch.Generator, k: int) -> object:
        return self.defence.sample(generator, k)

    def logits(self, x: Tensor, draw: object) -> Tensor:
        x = x.to(torch.float32)
        shown = x.detach()
        rows = self._examples(shown)
        # Those of this query: an attack stops asking about what it takes for broken, rightly or not.
        self._stop_if_spent(rows)
        inside = self._inside(shown, rows)
        self.reached[rows[inside]] = shown[inside]
        return self._paid(self.defence.logits(x, draw), rows)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x, self.sample(self._generator, len(x)))

    def ended_with(self, returned: object) -> Tensor:
        """What an attack ends with: the points that it returned, or the last ones that it asked at.

        Args:
            returned: what the library returned; None where its budget ended it.
        """
        found = returned[1] if isinstance(returned, tuple) else returned  # foolbox: raw, clipped, success
        if isinstance(found, np.ndarray):
            found = torch.from_numpy(found)
        points = self.reached.clone()
        if isinstance(found, Tensor) and found.shape == self.x.shape:
            rows = torch.arange(len(self.x))
            inside = self._inside(found.detach(), rows)
            points[inside] = found.detach().to(points)[inside]
        return points

    @torch.no_grad()
    def right(self, points: Tensor, draws: int) -> Tensor:
        """Which answers at ``points`` [n, C, H, W] are right, under draws that no attack saw: [draws, n]."""
        generator = torch.Generator().manual_seed(2)
        drawn = [self.sample(generator, len(points)) for _ in range(draws)]
        return torch.stack([self.defence.logits(points, draw).argmax(1) == self.y for draw in drawn])
