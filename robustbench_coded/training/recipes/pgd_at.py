"""Adversarial training with PGD (arXiv 1706.06083): the loss at the worst input that PGD finds."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from robustbench_coded.training.recipes.recipe import Moment
from robustbench_coded.training.recipes.signed_steps import ball_around, signed_steps
from robustbench_coded.training.stages import Stages


@dataclass(frozen=True)
class PgdAt:
    """L-infinity PGD from a uniform start inside the ball.

    Attributes:
        eps: radius in pixel units [0, 1].
        steps: gradient steps for every batch.
        step_size: in pixel units.
    """

    eps: float = 8 / 255
    steps: int = 7
    step_size: float = 2 / 255

    def __call__(self, stages: Stages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        # Batch-norm's running statistics describe the inputs trained on, so the search leaves them be.
        stages.eval()
        x_adv = self.worst_inputs(stages, x, y, moment.generator)
        stages.train()
        return cross_entropy(stages(x_adv), y)

    def worst_inputs(self, stages: Stages, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The last iterate ``[k, C, H, W]``: within eps of ``x`` and in [0, 1]."""
        lower, upper = ball_around(x, self.eps)
        noise = torch.rand(x.shape, generator=generator).to(x.device)
        return signed_steps(
            lower + noise * (upper - lower),
            (lower, upper),
            lambda inputs: cross_entropy(stages(inputs), y, reduction="sum"),
            steps=self.steps,
            step_size=self.step_size,
        )
