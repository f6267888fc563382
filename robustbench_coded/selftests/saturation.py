"""Do the logits say how near an answer is to changing? One-hot answers and pinned gaps do not."""

import torch

from robustbench_coded.selftests.result import SelfTest, judged
from robustbench_coded.selftests.scene import Scene
from robustbench_coded.selftests.walk import Walk

NAME = "gaps between logits"
FINE = 1e-3  # of the largest gap: smaller differences count as none
DIFFERENT = 0.25  # share of gaps that must be different numbers
SPREAD = 0.02  # of the gaps about their median, as a share of it


def saturation(scene: Scene, path: Walk) -> SelfTest:
    """Fails where the gap between the two largest logits takes a few values only, or nearly one.

    Such answers give an attack that raises a loss nothing to follow, whatever their gradients say.
    """
    logits = torch.cat([scene.answers(scene.x, path.draws), *path.logits])
    top = torch.nan_to_num(logits.double()).topk(2, dim=-1).values
    gaps = (top[..., 0] - top[..., 1]).flatten()
    step = max(FINE * float(gaps.max()), 1e-30)
    distinct = len((gaps / step).round().unique()) / min(len(gaps), round(1 / FINE))
    median = float(gaps.median())
    spread = float((gaps - median).abs().median()) / median if median > 0 else 0.0
    finding = (
        f"The gaps between the two largest logits of {len(gaps)} answers take {distinct:.0%} as many values "
        f"and deviate from their median by {spread:.1%} of it."
    )
    return judged(NAME, distinct >= DIFFERENT and spread >= SPREAD, finding, distinct=distinct, spread=spread)
