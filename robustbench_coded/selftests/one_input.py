"""Is an input that comes alone answered under the same draws as one in the last slot of a batch?

Draws are made for a batch of a given size. If a defence calls its answers batch-independent, neither that
size nor the slot may change what is drawn for an input. An evaluation only sees batches of its own size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_coded.selftests.other_generators import DRAWS, LEVEL, chance_of
from robustbench_coded.selftests.result import SelfTest, judged, not_applicable
from robustbench_coded.selftests.scene import Scene

NAME = "draws for one input"


@dataclass(frozen=True)
class Batches:
    """Batches of the size that is evaluated, and of one input.

    Attributes:
        k: the size that is evaluated.
        answers: of the defence to inputs [B, C, H, W] under its ``index``-th draw for B inputs, [B, classes].
    """

    k: int
    answers: Callable[[Tensor, int], Tensor]


def one_input(scene: Scene, x: Tensor, batches: Batches) -> SelfTest:
    """Compares the answers to the first of ``x`` under DRAWS draws, by a permutation test of the draws.

    Args:
        x: perturbed inputs [G, K, C, H, W].
    """
    if not scene.oracle.randomised or scene.batch_dependent or batches.k == 1:
        return not_applicable(
            NAME, "It draws nothing, depends on the batch, or is only asked about one input."
        )
    inputs = x.flatten(0, 1)
    whole = inputs[torch.arange(batches.k, 0, -1) % len(inputs)]
    whole[-1] = inputs[0]

    def asked(batch: Tensor, first: int) -> Tensor:
        # Draws of other indices: the same generators would lead to the same numbers in both sizes.
        drawn = [batches.answers(batch, first + index)[-1] for index in range(DRAWS)]
        scene.forwards += DRAWS * len(batch)
        return torch.stack(drawn)

    chance = chance_of(asked(whole, 0), asked(inputs[:1], DRAWS))
    finding = (
        f"Alone and in the last slot of a batch of {batches.k}, an input's answers differ as much with "
        f"probability {chance:.2g}, if neither changes its draws."
    )
    return judged(NAME, chance > LEVEL, finding, chance=chance)
