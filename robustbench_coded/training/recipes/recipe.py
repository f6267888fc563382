"""What a recipe is, and what it knows of the run."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from robustbench_coded.training.stages import Stages


class Moment(NamedTuple):
    """Where in the run a step lies, and its randomness."""

    epoch: int  # from 0
    epochs: int
    generator: torch.Generator  # on the CPU


class Recipe(Protocol):
    """A training loss. Recipes are frozen dataclasses: their fields are the recipe's options."""

    def __call__(self, stages: Stages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        """The loss of a batch.

        Args:
            stages: the network, in training mode.
            x: ``[k, C, H, W]`` in [0, 1].
            y: ``[k]`` int64.
            moment: epoch and randomness.
        Returns:
            The mean over the batch, a scalar.
        """
