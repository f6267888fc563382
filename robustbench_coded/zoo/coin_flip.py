"""A classifier that is right everywhere, but for a coin that has nothing to do with its input.

Truth: every input is further than eps from the boundary, so no perturbation changes the classifier's answer.
Whatever the attacker does and knows, an answer is right exactly when the coin does not fall, with probability
1 - p = 95%. It is the test of a toolkit's bookkeeping: counting any miss of several tries as a break gives
0.95^tries, which is the truth about an attacker who may submit every input so often.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.known import Known, exactly
from robustbench_coded.zoo.linear import LinearModel, along, pattern, planted_margins, spread, worst_margins

P = 0.05


class CoinFlip:
    """Swaps the two logits of each input with probability ``p``. A draw is booleans [k]."""

    name = "coin-flip"
    randomised = True
    batch_dependent = False
    base: nn.Module | None = None

    def __init__(self, model: LinearModel, p: float):
        self.model = model
        self.p = p

    def sample(self, generator: torch.Generator, k: int) -> Tensor:
        return torch.rand(k, generator=generator) < self.p

    def logits(self, x: Tensor, draw: Tensor) -> Tensor:
        logits = self.model(x)
        return torch.where(draw.to(x.device).unsqueeze(-1), -logits, logits)


def known(n: int = 640, eps: float = 0.1, p: float = P) -> Known:
    model = along(pattern(9))
    x, y = planted_margins(spread(1.3 * eps, 1.9 * eps, n), pattern(9))
    if not (worst_margins(model, x, y, eps) > 0).all():
        raise ValueError(f"expected a classifier that is right everywhere, but {eps=} reaches its boundary")
    return Known(
        CoinFlip(model, p),
        x,
        y,
        128,
        exactly(1 - p),
        lambda threat: exactly(1 - p),
        submitted=lambda submissions: exactly((1 - p) ** submissions),
    )
