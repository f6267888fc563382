"""Targeted attacks: a defence seen as one of two classes, the target and all others.

Every attack that leads away from class 0 of that defence leads towards the target, and is done where the
target's logit is the largest. What attacks know of early stops, draws and relaxed operators holds unchanged.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_coded.defences.protocol import Defence, Draw, logits_grouped

OTHERS = 0  # the label that all inputs have


class Towards:
    """A defence whose logits are the largest of the other classes' and the target's, [k, 2].

    Args:
        defence: what is attacked.
        target: index of the wanted class. A rejection counts as one of the others.
        base: its base model; None takes the one that the defence names.
    """

    def __init__(self, defence: Defence, target: int, base: nn.Module | None = None):
        self.defence, self.target = defence, target
        self.name, self.randomised = defence.name, defence.randomised
        self.batch_dependent = defence.batch_dependent
        self.abstain = None
        base = defence.base if base is None else base
        self.base: nn.Module | None = None if base is None else _Base(base, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["defence"], name)  # images, reset, fit, where it has them

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        return self.defence.sample(generator, k)

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        return two_classes(self.defence.logits(x, draw), self.target)

    def logits_grouped(self, x: Tensor, draws: Sequence[Draw]) -> Tensor:
        return two_classes(logits_grouped(self.defence, x, draws), self.target)


class _Base(nn.Module):
    def __init__(self, base: nn.Module, target: int):
        super().__init__()
        self.base, self.target = base, target

    def forward(self, x: Tensor) -> Tensor:
        return two_classes(self.base(x), self.target)


def two_classes(logits: Tensor, target: int) -> Tensor:
    """[..., classes] -> [..., 2].

    Raises:
        ValueError: there is no such class.
    """
    classes = logits.shape[-1]
    if not 0 <= target < classes:
        raise ValueError(f"expected targets from 0 to {classes - 1}, got {target}")
    others = torch.cat([logits[..., :target], logits[..., target + 1 :]], -1).amax(-1)
    return torch.stack([others, logits[..., target]], -1)
