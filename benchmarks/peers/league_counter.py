"""The one counter of the league: what each example has cost an attack, and where it stands.

It stands where the network is asked, so every library is counted alike: an image through the network forward
is 1, and its gradient 1 more. A deterministic network's example is broken by the first query inside its ball
that is answered wrongly, whether or not the attack keeps that point. Random defences: ``league_random``.
"""

import torch
from torch import Tensor, nn

NEVER = 2**31
ROUNDING = 1e-5  # of libraries that project in float32


class Spent(Exception):
    """Every example is broken or has used up its budget."""


class Counter(nn.Module):
    """Keeps accounts of queries.

    Args:
        x: the clean inputs [n, C, H, W].
        eps: radius in l-infinity.
        budget: images for each example.

    Attributes:
        cost: images so far, [n].
        broken_at: images it took to break each example, [n]; NEVER where it stands.
        spent: whether an attack was ended.
    """

    def __init__(self, x: Tensor, eps: float, budget: int):
        super().__init__()
        self.x, self.eps, self.budget, self.spent = x, eps, budget, False
        self.cost = torch.zeros(len(x), dtype=torch.long)
        self.broken_at = torch.full((len(x),), NEVER)
        self._last = torch.arange(len(x))
        self.eval()

    def _stop_if_spent(self, examples: Tensor) -> None:
        """Raises Spent where none of these examples may ask again."""
        if bool((self.cost[examples] >= self.budget).all()):
            self.spent = True
            raise Spent

    def _paid(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Charges the answers now, and gradients when they are taken."""
        self._pay(rows)
        if logits.requires_grad:
            logits.register_hook(lambda grad: self._pay(rows))
        return logits

    def _inside(self, x: Tensor, rows: Tensor) -> Tensor:
        """Which rows lie in their example's ball and in the box; NaN lies nowhere."""
        near = (x - self.x[rows]).abs().flatten(1).amax(1) <= self.eps + ROUNDING
        return near & (x.flatten(1).amin(1) >= -ROUNDING) & (x.flatten(1).amax(1) <= 1 + ROUNDING)

    def _pay(self, rows: Tensor) -> None:
        self.cost.index_add_(0, rows, torch.ones_like(rows))

    def _examples(self, x: Tensor) -> Tensor:
        """Whose perturbation each row is: those of the last query, or else the nearest clean inputs."""
        n = len(self.x)
        copies = torch.arange(n).repeat(max(1, len(x) // n))
        for guess in (copies, self._last):
            if len(guess) == len(x) and (len(x) == n or self._near(x, guess)):
                self._last = guess
                return guess
        # Among the few that are nearest on the whole, the one whose largest move is smallest.
        candidates = torch.cdist(x.flatten(1), self.x.flatten(1)).topk(min(8, n), largest=False).indices
        moves = (x[:, None] - self.x[candidates]).abs().flatten(2).amax(2)
        self._last = candidates.gather(1, moves.argmin(1, keepdim=True))[:, 0]
        return self._last

    def _near(self, x: Tensor, rows: Tensor) -> bool:
        return bool(((x - self.x[rows]).abs().flatten(1).amax(1) <= self.eps + ROUNDING).all())


class Counted(Counter):
    """A deterministic network that keeps accounts.

    Args:
        network: [B, C, H, W] in [0, 1] -> logits.
        x, y: the clean inputs [n, C, H, W] and labels; an example that is wrong at once is broken at 0.
    """

    def __init__(self, network: nn.Module, x: Tensor, y: Tensor, eps: float, budget: int):
        super().__init__(x, eps, budget)
        self.network, self.y = network, y
        with torch.no_grad():
            clean = network(x)
        self.classes = clean.shape[1]
        self.broken_at[clean.argmax(1) != y] = 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.float32)
        self._stop_if_spent(self.broken_at > self.budget)
        rows = self._examples(x.detach())
        logits = self._paid(self.network(x), rows)
        wrong = (logits.detach().argmax(1) != self.y[rows]) & self._inside(x.detach(), rows)
        hit = rows[wrong]
        self.broken_at[hit] = torch.minimum(self.broken_at[hit], self.cost[hit])
        return logits

    def left(self, budget: int) -> Tensor:
        """Which examples stand after so many images, [n]."""
        return self.broken_at > budget
