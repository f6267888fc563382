"""TRADES (arXiv 1901.08573, algorithm 1): clean cross-entropy, and answers that stay as inputs move."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from robustbench_coded.training.recipes.recipe import Moment
from robustbench_coded.training.recipes.signed_steps import ball_around, signed_steps
from robustbench_coded.training.stages import Stages

# Of the paper: where the gradient of the divergence is 0, at x itself, no step has a direction.
START = 0.001


@dataclass(frozen=True)
class Trades:
    """Within an l-infinity ball.

    Attributes:
        eps: radius in pixel units [0, 1].
        steps: gradient steps for every batch.
        step_size: in pixel units.
        beta: weight of the divergence between the answers to x and to its neighbour (the paper: 1 / lambda).
    """

    eps: float = 8 / 255
    steps: int = 10
    step_size: float = 2 / 255
    beta: float = 6.0

    def __call__(self, stages: Stages, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        # Batch-norm's running statistics describe the inputs trained on, so the search leaves them be.
        stages.eval()
        x_adv = self.furthest_answers(stages, x, moment.generator)
        stages.train()
        logits = stages(x)
        return cross_entropy(logits, y) + self.beta * divergence(logits, stages(x_adv)) / len(x)

    def furthest_answers(self, stages: Stages, x: Tensor, generator: torch.Generator) -> Tensor:
        """The last iterate ``[k, C, H, W]``: within eps of ``x`` and in [0, 1]."""
        with torch.no_grad():
            clean = stages(x)
        return signed_steps(
            x + START * torch.randn(x.shape, generator=generator).to(x.device),
            ball_around(x, self.eps),
            lambda inputs: divergence(clean, stages(inputs)),
            steps=self.steps,
            step_size=self.step_size,
        )


def divergence(clean: Tensor, moved: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the clean answers from the moved ones, logits [k, classes]; the sum."""
    return kl_div(log_softmax(moved, 1), log_softmax(clean, 1), reduction="sum", log_target=True)
