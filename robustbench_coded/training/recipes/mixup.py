"""Mixup (arXiv 1710.09412): the network is trained on convex combinations of pairs of inputs and labels."""

from dataclasses import dataclass

from torch import Tensor

from robustbench_coded.training.recipes.mixing import Mixing
from robustbench_coded.training.recipes.recipe import Moment
from robustbench_coded.training.stages import Stages


@dataclass(frozen=True)
class Mixup:
    """The share of the first input is drawn from Beta(alpha, alpha) once a batch."""

    alpha: float = 1.0

    def __call__(self, stages: Stages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        mixing = Mixing.draw(len(x), self.alpha, moment.generator)
        return mixing.loss(stages(mixing.inputs(x)), y)
