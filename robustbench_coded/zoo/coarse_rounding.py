"""Pixels rounded so coarsely that no perturbation gets through, before a model that any would fool.

Images lie on multiples of 1/LEVELS and a perturbation is smaller than half that distance, so rounding takes
it away altogether: every answer within the ball is the clean one. Truth: clean accuracy, 90%, as one label in
ten is wrong, exactly, under all threat models. The model without the rounding falls everywhere: its margins
are below eps. Gradients are zero everywhere, here with reason.
"""

import torch
from torch import Tensor, nn

from robustbench_coded.zoo.deterministic import Deterministic
from robustbench_coded.zoo.known import Known, everywhere, exactly
from robustbench_coded.zoo.linear import LinearModel, along, pattern

LEVELS = 4
MISLABELLED = 10  # one in so many


class CoarselyRounded(nn.Module):
    """Rounds pixels to multiples of 1/LEVELS before the model."""

    def __init__(self, model: LinearModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x * LEVELS).round() / LEVELS)


def known(n: int = 640, eps: float = 0.1) -> Known:
    """Margins of 0.031 (two pixels of 64, one level each off) or 0.047."""
    if eps >= 0.5 / LEVELS:
        raise ValueError(f"expected eps below {0.5 / LEVELS}, half a level, got {eps}")
    direction = pattern(22)
    model = along(direction)
    x, answers = _images(direction, n)
    y = torch.where(torch.arange(n) % MISLABELLED == 3, 1 - answers, answers)
    share = exactly((answers == y).double().mean().item())
    defence = Deterministic("coarse-rounding", CoarselyRounded(model), base=model)
    return Known(defence, x, y, 128, share, everywhere(share))


def _images(direction: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Images on the grid with a small score, alternately of either sign, and their classes.

    Pairs of pixels on opposite sides of the pattern move together, which leaves the score at 0; then eight or
    twelve pixels move one level towards the class.
    """
    generator = torch.Generator().manual_seed(0)
    flat = direction.flatten()
    up, down = (flat > 0).nonzero().squeeze(1), (flat < 0).nonzero().squeeze(1)
    classes = torch.arange(n) % 2
    x = torch.full((n, flat.numel()), 0.5)
    for row, answer in zip(x, classes.tolist(), strict=True):
        order = torch.randperm(len(up), generator=generator)
        level = (torch.randint(-1, 2, (len(up),), generator=generator)) / LEVELS
        row[up[order]] += level
        row[down] += level
        towards = flat if answer else -flat
        moved = torch.randperm(flat.numel(), generator=generator)[: 8 + 4 * (answer ^ 1)]
        row[moved] += towards[moved] / LEVELS
    return x.view(n, *direction.shape), classes
