"""A defence that never looks: every input is given class 0.

Truth: the share of examples of class 0, clean and under any attack. Its accuracy does not fall, and that is
no merit: what it keeps at unbounded eps is the same.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.known import Known, exactly
from robustbench_coded.zoo.linear import pattern, planted_margins, spread

CLASSES = 5
LABELS = torch.tensor([0, 1, 2, 0, 3, 1, 2, 0, 3, 4])  # over and over: three in ten are of class 0


class Constant:
    """Logits (1, 0, 0, 0, 0) for every input."""

    name = "constant"
    randomised = False
    batch_dependent = False
    base: nn.Module | None = None

    def sample(self, generator: torch.Generator, k: int) -> None:
        return None

    def logits(self, x: Tensor, draw: None) -> Tensor:
        # Times zero, so that the gradient is there, and is zero.
        nothing = 0 * x.flatten(1).sum(1, keepdim=True)
        return nothing + torch.eye(CLASSES, dtype=x.dtype, device=x.device)[0]


def known(n: int = 640, eps: float = 0.1) -> Known:
    x, _ = planted_margins(spread(0.0, 2 * eps, n), pattern(5))
    y = LABELS[torch.arange(n) % len(LABELS)]
    share = exactly((y == 0).double().mean().item())
    return Known(Constant(), x, y, 128, share, lambda threat: share)
