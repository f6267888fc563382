"""Empirical risk minimisation: the mean cross-entropy of the batch."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from robustbench_coded.training.recipes.recipe import Moment
from robustbench_coded.training.stages import Stages


@dataclass(frozen=True)
class Erm:
    """arXiv 2510.00253, equation 1."""

    def __call__(self, stages: Stages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        return cross_entropy(stages(x), y)
