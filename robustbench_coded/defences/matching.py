"""The setting at which a baseline loses as much clean accuracy as another defence does."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robustbench_coded.defences.protocol import Defence

# The option that makes each baseline stronger, from where it does nothing to where little is left.
STRENGTH: dict[str, tuple[str, float, float]] = {
    "noise": ("sigma", 0.0, 1.0),
    "resize-pad": ("scale", 1.0, 0.1),
    "mixup-inference": ("share", 1.0, 0.05),
}


Batches = Sequence[tuple[Tensor, Tensor]]  # x [K, C, H, W] in [0, 1] and labels y [K]


class Match(NamedTuple):
    """A setting and the clean accuracy that it leaves, as a fraction."""

    setting: float
    accuracy: float


@torch.no_grad()
def clean_accuracy(defence: Defence, batches: Batches, *, seed: int, draws: int) -> float:
    """Mean accuracy on unperturbed batches over ``draws`` draws of each, which ``seed`` fixes."""
    generator = torch.Generator().manual_seed(seed)
    right = total = 0
    for x, y in batches:
        for _ in range(draws):
            draw = defence.sample(generator, len(x))
            right += int((defence.logits(x, draw).argmax(-1) == y).sum())
            total += len(y)
    return right / total


def match_clean(
    build: Callable[[float], Defence],
    target: float,
    batches: Batches,
    *,
    weakest: float,
    strongest: float,
    seed: int = 0,
    draws: int = 4,
    halvings: int = 12,
) -> Match:
    """Bisects for the setting whose clean accuracy is ``target``.

    Every setting is tried on the same draws, so accuracy falls with strength but for single examples, and
    settings differ by what they do and not by luck. Choose ``batches`` that are not evaluated.

    Args:
        build: the defence at a setting.
        target: clean accuracy to match, as a fraction.
        weakest, strongest: the settings between which to look.
        draws: draws per batch.
        halvings: how often the range is halved.
    Returns:
        Of all settings tried, the one nearest to ``target``; an end of the range where ``target`` lies
        outside.
    """

    def tried(setting: float) -> Match:
        return Match(setting, clean_accuracy(build(setting), batches, seed=seed, draws=draws))

    ends = [tried(weakest), tried(strongest)]
    best = min(ends, key=lambda match: abs(match.accuracy - target))
    for _ in range(halvings):
        middle = tried((weakest + strongest) / 2)
        best = min(best, middle, key=lambda match: abs(match.accuracy - target))
        if middle.accuracy > target:
            weakest = middle.setting
        else:
            strongest = middle.setting
    return best
