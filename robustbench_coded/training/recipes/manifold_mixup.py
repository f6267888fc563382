"""Manifold mixup (arXiv 1806.05236): mixup of the activations before a block drawn anew for each batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_coded.training.recipes.mixing import Mixing
from robustbench_coded.training.recipes.recipe import Moment
from robustbench_coded.training.stages import Stages


@dataclass(frozen=True)
class ManifoldMixup:
    """One share ~ Beta(alpha, alpha) and one of the ``before`` blocks for each batch.

    ``before`` (0, 2, 3) mixes the input, or what the first or the second group of residual blocks gives: the
    layers of arXiv 1806.05236 for PreActResNet-18. Blocks that a shorter network lacks are left out.
    """

    alpha: float = 2.0
    before: tuple[int, ...] = (0, 2, 3)

    def __call__(self, stages: Stages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        mixing = Mixing.draw(len(x), self.alpha, moment.generator)
        choices = [block for block in self.before if block < stages.count]
        block = choices[int(torch.randint(len(choices), (), generator=moment.generator))]
        hidden = stages.run(x, 0, block)
        return mixing.loss(stages.run(mixing.inputs(hidden), block, stages.count), y)
